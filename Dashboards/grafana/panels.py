"""What the four dashboards show: the panels, their queries and the annotations. generate.py makes Grafana's JSON of it.

Two habits: a panel never pads what is missing with a constant, since a metric that is gone must look gone; and counts that are
compared with a topic's records are the counters themselves, not `increase`, which extrapolates.
"""

import dataclasses

#: Where a fingerprint's traces are looked for: names of data sources, and what they call a search. The first is the default.
TRACES = {"Jaeger": "search", "Tempo": "traceql"}

#: Selectors by the dashboards' variables: all of one process, of a group, of a group's topic.
I = 'instance=~"$instance"'
G = 'messaging_consumer_group_name=~"$group",' + I
T = 'messaging_destination_name=~"$topic",' + G
RATE = "[$__rate_interval]"


@dataclasses.dataclass
class Query:
    expression: str
    legend: str = ""
    exemplar: bool = False
    instant: bool = False
    format: str = "time_series"


@dataclasses.dataclass
class Panel:
    type: str
    title: str
    description: str
    unit: str
    queries: list
    width: int = 8
    height: int = 8
    thresholds: tuple = ()
    base: str = "green"
    minimum: float | None = 0
    maximum: float | None = None
    stacked: bool = False
    fingerprints: bool = False


def stat(title, description, expression, unit="short", **more):
    return Panel("stat", title, description, unit, [Query(expression)], **{"width": 4, "height": 5, **more})


def series(title, description, unit, *queries, **more):
    return Panel("timeseries", title, description, unit, [Query(*query) for query in queries], **more)


def bars(title, description, expression, legend, unit="short", **more):
    return Panel("bargauge", title, description, unit, [Query(expression, legend, instant=True)], **more)


def quantiles(metric, selector, label=None):
    """The median, 95th and 99th percentile, with exemplars; or only the 95th by a label."""
    by = f"le, {label}" if label else "le"
    return [
        (f"histogram_quantile({share}, sum by ({by}) (rate({metric}_bucket{{{selector}}}{RATE})))",
         f"{{{{{label}}}}}" if label else f"p{int(share * 100)}", True)
        for share in ([0.95] if label else [0.5, 0.95, 0.99])
    ]


def by_error(expression):
    """A sum by error.type whose successes, which have none, are called `none`."""
    return f'label_replace(sum by (error_type) ({expression}), "error_type", "none", "error_type", "")', "{{error_type}}"


def heatmap(title, description, metric, selector, **more):
    query = Query(f"sum by (le) (increase({metric}_bucket{{{selector}}}{RATE}))", "{{le}}", True, format="heatmap")
    return Panel("heatmap", title, description, "s", [query], **more)


#: Title, colour, expression, text. Grafana draws a mark where the value is above 0.
ANNOTATIONS = [
    (
        "Gate change", "red", f"sum by (instance, triage_gate_state) (changes(triage_gate_state{{{G}}}{RATE})) > 0",
        "gate {{triage_gate_state}} changes on {{instance}}",
    ),
    (
        "Rebalance", "purple",
        # A counter that a process began with has no increase: it is a mark of its own.
        f"sum by (instance, triage_rebalance_type) (increase(triage_rebalances_total{{{G}}}{RATE})) > 0 or "
        f"sum by (instance, triage_rebalance_type) (triage_rebalances_total{{{G}}} "
        f"unless triage_rebalances_total{{{G}}} offset $__rate_interval) > 0",
        "partitions {{triage_rebalance_type}} on {{instance}}",
    ),
]

DEAD = 'triage_outcome="dead_lettered"'
#: With a grouping and a window put in.
ERROR_RATE = (
    f"sum{{0}} (rate(triage_events_processed_total{{{{{DEAD},{T}}}}}{{1}})) / "
    f"sum{{0}} (rate(triage_events_processed_total{{{{{T}}}}}{{1}}))"
)

OVERVIEW = [
    ("The five", [
        stat("Throughput", "Events that reached their end each second: completed or dead-lettered.",
             f"sum(rate(triage_events_processed_total{{{T}}}{RATE}))", "eps"),
        stat("Latency, p95", "From an event's first produce to its end, all waits for retries included.",
             f"histogram_quantile(0.95, sum by (le) "
             f"(rate(triage_event_end_to_end_duration_seconds_bucket{{{T}}}[$__range])))", "s"),
        stat("Error rate", "Dead letters among all events that reached their end, over the dashboard's time.",
             ERROR_RATE.format("", "[$__range]"), "percentunit", thresholds=((0.001, "orange"), (0.01, "red"))),
        stat("Retries", "Retries decided on since the processes started.", f"sum(triage_retries_total{{{T}}})"),
        stat("Open dead letters", "Dead letters that nobody has replayed or discarded.",
             f"sum(triage_dead_letter_size{{{G}}})", thresholds=((1, "red"),)),
        stat("Error budget left, 30 days", "Share of the budget (0.1 % of events may be dead-lettered) that is not used up; "
            "below 0 "
             "it is overspent. Recorded by the rules, for a whole consumer group.",
             'min(triage:error_budget_remaining:ratio30d{messaging_consumer_group_name=~"$group"})', "percentunit",
             base="red", thresholds=((0, "orange"), (0.25, "green")), minimum=None),
    ]),
    ("Throughput and latency", [
        series("Events finished", "Events that reached their end each second, by outcome.", "eps",
               (f"sum by (triage_outcome) (rate(triage_events_processed_total{{{T}}}{RATE}))", "{{triage_outcome}}"),
               stacked=True),
        series("End-to-end latency", "From an event's first produce to its end, all waits included. A point leads to its "
                                     "trace.", "s",
               *quantiles("triage_event_end_to_end_duration_seconds", T)),
        series("Processing time", "Time of one delivery's processing, that of its process span. A point leads to its trace.", "s",
               *quantiles("messaging_process_duration_seconds", T)),
        series("Throughput by topic", "Events that reached their end each second, by topic.", "eps",
               (f"sum by (messaging_destination_name) (rate(triage_events_processed_total{{{T}}}{RATE}))",
                "{{messaging_destination_name}}"), stacked=True),
        heatmap("End-to-end latency, all", "How many events took how long. A point leads to its trace.",
                "triage_event_end_to_end_duration_seconds", T),
        heatmap("Processing time, all", "How many deliveries took how long. A point leads to its trace.",
                "messaging_process_duration_seconds", T),
    ]),
    ("Errors, retries, dead letters", [
        series("Error rate by topic", "Dead letters among the events that reached their end.", "percentunit",
               (ERROR_RATE.format(" by (messaging_destination_name)", RATE), "{{messaging_destination_name}}")),
        series("Error budget burn rate", "How many times faster than allowed the budget is spent: at 1 it lasts 30 days, at 14.4 "
               "two days. Recorded by the rules, for a whole consumer group.", "none",
               ('max(triage:error_budget_burn:ratio_rate5m{messaging_consumer_group_name=~"$group"})', "5 m"),
               ('max(triage:error_budget_burn:ratio_rate1h{messaging_consumer_group_name=~"$group"})', "1 h"),
               ('max(triage:error_budget_burn:ratio_rate6h{messaging_consumer_group_name=~"$group"})', "6 h"),
               ('max(triage:error_budget_burn:ratio_rate3d{messaging_consumer_group_name=~"$group"})', "3 d"),
               thresholds=((1, "orange"), (14.4, "red"))),
        series("Retries by strategy", "Retries decided on each second. A point leads to a trace.", "ops",
               (f"sum by (triage_retry_strategy) (rate(triage_retries_total{{{T}}}{RATE}))", "{{triage_retry_strategy}}", True),
               stacked=True),
        series("Dead letters open", "Dead letters that nobody has replayed or discarded, by topic.", "short",
               (f"sum by (messaging_destination_name) (triage_dead_letter_size{{{G}}})", "{{messaging_destination_name}}")),
        bars("Finished since start", "Events that reached their end since the processes started, by outcome.",
             f"sum by (triage_outcome) (triage_events_processed_total{{{T}}})", "{{triage_outcome}}"),
        stat("Events since start", "Events that reached their end since the processes started.",
             f"sum(triage_events_processed_total{{{T}}})", height=8),
        stat("Deliveries per event", "How often an event was delivered until its end: 1 without any retry.",
             f"sum(triage_deliveries_total{{{T}}}) / sum(triage_events_processed_total{{{T}}})", "none", height=8,
             thresholds=((1.5, "orange"), (3, "red"))),
    ]),
]

FAILURES = [
    ("Dead letters", [
        bars("Dead letters by class", "Since the processes started: transient ones used up their retries, persistent ones "
                                      "had none.",
             f"sum by (triage_error_class) (triage_dead_letters_total{{{T}}})", "{{triage_error_class}}"),
        bars("Dead letters by fingerprint", "Since the processes started. The same fault has the same fingerprint in every "
            "process and "
             "build. A bar leads to its traces.",
             f"sum by (triage_error_fingerprint) (triage_dead_letters_total{{{T}}})", "{{triage_error_fingerprint}}",
             fingerprints=True),
        bars("Dead letters by topic", "Since the processes started, by the topic that the event first came from.",
             f"sum by (messaging_destination_name) (triage_dead_letters_total{{{T}}})", "{{messaging_destination_name}}"),
        series("Dead letter rate by class", "Dead letters written each second, without the first of a new fingerprint. A "
            "point leads to "
               "its trace.", "ops",
               (f"sum by (triage_error_class) (rate(triage_dead_letters_total{{{T}}}{RATE}))", "{{triage_error_class}}", True),
               stacked=True),
        series("Dead letters by fingerprint over time", "The counter of each fingerprint, which begins with its first dead "
            "letter. A "
               "point leads to its trace, a line to all traces of the fingerprint.", "short",
               (f"sum by (triage_error_fingerprint) (triage_dead_letters_total{{{T}}})", "{{triage_error_fingerprint}}", True),
               fingerprints=True),
        series("Dead letter rate by topic", "Dead letters written each second, from the count of final outcomes.", "ops",
               (f"sum by (messaging_destination_name) (rate(triage_events_processed_total{{{DEAD},{T}}}{RATE}))",
                "{{messaging_destination_name}}"), stacked=True),
        stat("Dead letters open", "Dead letters that nobody has replayed or discarded.",
             f"sum(triage_dead_letter_size{{{G}}})", width=6, thresholds=((1, "red"),)),
        stat("Oldest open dead letter", "Age of the oldest open dead letter.",
             f"max(triage_dead_letter_oldest_age_seconds{{{G}}})", "s", width=6, thresholds=((86400, "orange"), (604800, "red"))),
        stat("Fingerprints", "Different faults that dead letters were written for since the processes started.",
             f'count(count by (triage_error_fingerprint) (triage_dead_letters_total{{triage_error_fingerprint!="_other",{T}}}))',
             width=6),
        stat("Beyond the fingerprints' limit", "Dead letters counted under _other: more than 50 fingerprints are in use.",
             f'sum(triage_dead_letters_total{{triage_error_fingerprint="_other",{T}}})', width=6, thresholds=((1, "orange"),)),
    ]),
    ("Attempts and retries", [
        series("Failing deliveries by error type", "Deliveries whose last attempt failed, each second, by error.type.", "ops",
               (f'sum by (error_type) '
                f'(rate(messaging_process_duration_seconds_count{{error_type!="",{T}}}{RATE}))', "{{error_type}}"),
               stacked=True),
        series("Deliveries by outcome", "What became of deliveries, each second; an event with three retries has four.", "ops",
               (f"sum by (triage_outcome) (rate(triage_deliveries_total{{{T}}}{RATE}))", "{{triage_outcome}}"), stacked=True),
        series("Deliveries per event", "How often events were delivered until their end, by topic: 1 without any retry.", "none",
               (f"sum by (messaging_destination_name) (rate(triage_deliveries_total{{{T}}}{RATE})) / "
                f"sum by (messaging_destination_name) (rate(triage_events_processed_total{{{T}}}{RATE}))",
                "{{messaging_destination_name}}")),
        bars("Retries by topic", "Retries decided on since the processes started.",
             f"sum by (messaging_destination_name) (triage_retries_total{{{T}}})", "{{messaging_destination_name}}"),
        bars("Retries by class", "Retries decided on since the processes started: transient failures and what nobody classified.",
             f"sum by (triage_error_class) (triage_retries_total{{{T}}})", "{{triage_error_class}}"),
        series("Lateness of retries", "How much later than due a retry began. A point leads to its trace.", "s",
               *quantiles("triage_retry_lateness_seconds", T)),
        series("Waiting time in the retry topic", "How long records waited there. A point leads to its trace.", "s",
               *quantiles("triage_retry_wait_duration_seconds", T)),
        series("Time of failing deliveries, p95", "Processing time of deliveries whose last attempt failed, by error.type. "
            "A point "
               "leads to its trace.", "s",
               *quantiles("messaging_process_duration_seconds", 'error_type!="",' + T, "error_type")),
        series("End-to-end latency of dead letters", "From the first produce of an event to its dead letter, all waits "
               "included. A point leads to its trace.", "s",
               *quantiles("triage_event_end_to_end_duration_seconds", f"{DEAD},{T}")),
        heatmap("Lateness of retries, all", "How many retries began how late. A point leads to its trace.",
                "triage_retry_lateness_seconds", T),
    ]),
]

PIPELINE = [
    ("Now", [
        stat("Records in flight", "Records delivered and not yet complete.", f"sum(triage_records_in_flight{{{G}}})",
             width=3),
        stat("Lanes", "Lanes, one for each patient, that have records in flight.", f"sum(triage_lanes{{{G}}})", width=3),
        stat("Consumer lag", "Records that are not yet complete.", f"sum(triage_consumer_lag{{{G}}})",
             width=3),
        stat("Consumer lag in time", "Age of the oldest record of a main topic that is not yet complete.",
             f'max(triage_consumer_lag_time_seconds{{messaging_destination_name!~".+[.]retry",{G}}})', "s",
             width=3, thresholds=((60, "orange"), (300, "red"))),
        stat("Retries waiting", "Retry records waiting to be handled, parked ones too.", f"sum(triage_retry_waiting{{{G}}})",
             width=3),
        stat("Keys blocked", "Patients whose events wait for a retry of an earlier one.", f"sum(triage_keys_blocked{{{G}}})",
             width=3),
        stat("Partitions paused", "Assigned partitions that are not fetched from at present.",
             f"sum(triage_partitions_paused{{{G}}})", width=3, thresholds=((1, "orange"),)),
        stat("Instances up", "Processes that Prometheus reaches.", f"sum(up{{{I}}})", width=3),
    ]),
    ("Flow", [
        series("Records consumed", "Records that polls brought, each second, by topic.", "ops",
               (f"sum by (messaging_destination_name) (rate(messaging_client_consumed_messages_total{{{T}}}{RATE}))",
                "{{messaging_destination_name}}"), stacked=True),
        series("Records sent", "Records sent to the broker, each second, by the topic they went to.", "ops",
               ('sum by (messaging_destination_name) (rate(messaging_client_sent_messages_total{messaging_destination_name=~'
                f'"($topic)([.]retry|[.]dlq)?",{I}}}{RATE}))', "{{messaging_destination_name}}"), stacked=True),
        series("Time of client operations, p95", "Sends, polls and commits, by operation. A point leads to its trace.", "s",
               *quantiles("messaging_client_operation_duration_seconds", I, "messaging_operation_name")),
        series("Records in flight by instance", "Records delivered and not yet complete.", "short",
               (f"sum by (instance) (triage_records_in_flight{{{G}}})", "{{instance}}")),
        series("Lanes and records in flight", "A lane hands out the records of one patient, one after the other. Many records "
               "in few lanes wait for their own patients.", "short",
               (f"sum(triage_lanes{{{G}}})", "lanes"), (f"sum(triage_records_in_flight{{{G}}})", "records in flight")),
        series("Consumer lag in records", "Records of a topic that are not yet complete.", "short",
               (f"sum by (messaging_destination_name) (triage_consumer_lag{{{G}}})", "{{messaging_destination_name}}")),
        series("Consumer lag in time by topic", "Age of the oldest record that is not yet complete.", "s",
               (f"max by (messaging_destination_name) (triage_consumer_lag_time_seconds{{{G}}})",
                "{{messaging_destination_name}}")),
        series("Partitions with the most lag", "Records that are not yet complete, of the ten partitions with the most.", "short",
               (f"topk(10, sum by (messaging_destination_name, messaging_destination_partition_id) (triage_consumer_lag{{{G}}}))",
                "{{messaging_destination_name}}/{{messaging_destination_partition_id}}")),
        series("Retry records waiting", "Retry records waiting to be handled, by why they wait.", "short",
               (f"sum by (triage_wait_reason) (triage_retry_waiting{{{G}}})", "{{triage_wait_reason}}"), stacked=True),
        series("Events parked", "Events put into the retry topic each second behind an earlier one of their patient, which waits "
               "for its retry.", "ops",
               (f'sum by (messaging_destination_name) (rate(triage_deliveries_total{{triage_outcome="parked",{T}}}{RATE}))',
                "{{messaging_destination_name}}"), stacked=True),
        series("Keys blocked by group", "Patients whose events wait for a retry of an earlier one.", "short",
               (f"sum by (messaging_consumer_group_name) (triage_keys_blocked{{{G}}})", "{{messaging_consumer_group_name}}")),
        bars("Parked since start", "Events that had to wait behind an earlier one of their patient since the processes started.",
             f'sum by (messaging_destination_name) (triage_deliveries_total{{triage_outcome="parked",{T}}})',
             "{{messaging_destination_name}}"),
        series("Oldest waiting retry", "Age of the oldest waiting retry record since it was written.", "s",
               (f"max by (instance) (triage_retry_oldest_age_seconds{{{G}}})", "{{instance}}"), width=24),
    ]),
    ("Holding back, assignments, commits", [
        series("Gate", "1 for the state that the outage gate of an instance is in.", "none",
               (f"max by (instance, triage_gate_state) (triage_gate_state{{{G}}})", "{{instance}} "
                   "{{triage_gate_state}}"), maximum=1),
        series("Storm breaker", "1 for the state that the storm breaker of an instance is in.", "none",
               (f"max by (instance, triage_storm_state) (triage_storm_state{{{G}}})", "{{instance}} "
                   "{{triage_storm_state}}"), maximum=1),
        series("Partitions paused by instance", "Assigned partitions that are not fetched from.", "short",
               (f"sum by (instance) (triage_partitions_paused{{{G}}})", "{{instance}}")),
        series("Rebalances", "Changes of the assignment since the processes started, by kind.", "short",
               (f"sum by (triage_rebalance_type) (triage_rebalances_total{{{G}}})", "{{triage_rebalance_type}}")),
        series("Commits", "Offset commits each second; those with an error type failed.", "ops",
               by_error(f"rate(triage_commits_total{{{G}}}{RATE})"), stacked=True),
        series("Handler overruns", "Attempts whose handler went on after its time-out, since the processes started.", "short",
               (f"sum by (instance) (triage_handler_overruns_total{{{G}}})", "{{instance}}")),
        series("Duplicates", "Records voided each second, because another copy of the event counts.", "ops",
               (f"sum by (messaging_destination_name) (rate(triage_duplicates_total{{{T}}}{RATE}))",
                "{{messaging_destination_name}}")),
        series("Same event again, stale versions", "Events each second that were skipped since one with their id was completed "
               "before, and events older than one already handled.", "ops",
               (f"sum by (messaging_destination_name) (rate(triage_events_deduplicated_total{{{T}}}{RATE}))",
                "again {{messaging_destination_name}}"),
               (f"sum by (messaging_destination_name) (rate(triage_stale_total{{{T}}}{RATE}))",
                "stale {{messaging_destination_name}}")),
        bars("Deliveries since start", "What became of deliveries since the processes started.",
             f"sum by (triage_outcome) (triage_deliveries_total{{{T}}})", "{{triage_outcome}}"),
    ]),
    ("Processes", [
        series("CPU", "CPU seconds used in a second, by instance and mode.", "percentunit",
               (f"sum by (instance, cpu_mode) (rate(process_cpu_time_seconds_total{{{I}}}{RATE}))", "{{instance}} {{cpu_mode}}")),
        series("Memory", "Resident memory.", "bytes", (f"max by (instance) (process_memory_usage_bytes{{{I}}})", "{{instance}}")),
        series("Descriptors and threads", "Open descriptors and threads of each process.", "short",
               (f"max by (instance) (process_unix_file_descriptor_count{{{I}}})", "{{instance}} descriptors"),
               (f"max by (instance) (process_thread_count{{{I}}})", "{{instance}} threads")),
        series("Uptime", "Time since each process began; it falls to 0 at a restart.", "s",
               (f"max by (instance) (process_uptime_seconds{{{I}}})", "{{instance}}"), width=16),
        bars("Versions", "Processes by version of Triage.", f"count by (service_version) "
            f"(target_info{{{I}}})", "{{service_version}}"),
    ]),
]

TELEMETRY = [
    ("Spans", [
        series("Spans begun", "Spans begun each second, by what the sampler decided.", "ops",
               (f"sum by (otel_span_sampling_result) (rate(otel_sdk_span_started_total{{{I}}}{RATE}))",
                "{{otel_span_sampling_result}}"), stacked=True),
        series("Spans alive", "Recorded spans that have not ended.", "short",
               (f"sum by (instance) (otel_sdk_span_live{{{I}}})", "{{instance}}")),
        series("Span queue", "Spans that wait for export.", "short",
               (f"sum by (instance) (otel_sdk_processor_span_queue_size{{{I}}})", "{{instance}}")),
        series("Span queue in bytes", "Encoded bytes of the spans that wait for export, and how many may.", "bytes",
               (f"sum by (instance) (triage_span_queue_usage_bytes{{{I}}})", "{{instance}} waiting"),
               (f"sum by (instance) (triage_span_queue_limit_bytes{{{I}}})", "{{instance}} limit")),
        series("Spans processed", "Spans handed to the exporter each second; those with an error type were dropped for that "
                                  "reason.",
               "ops", by_error(f"rate(otel_sdk_processor_span_processed_total{{{I}}}{RATE})"),
               stacked=True),
        bars("Spans dropped by reason", "Since the processes started: spans that never came to an export.",
             f'sum by (error_type) (otel_sdk_processor_span_processed_total{{error_type!="",{I}}})', "{{error_type}}"),
        series("Spans in export", "Spans given to the exporter that the collector has not answered for yet, retries "
                                  "included.", "short",
               (f"sum by (instance) (otel_sdk_exporter_span_inflight{{{I}}})", "{{instance}}")),
    ]),
    ("Export", [
        series("Spans exported", "Spans whose export ended, each second; those with an error type failed.", "ops",
               by_error(f"rate(otel_sdk_exporter_span_exported_total{{{I}}}{RATE})"), stacked=True),
        stat("Exported since start", "Spans that the collector took since the processes started.",
             f'sum(otel_sdk_exporter_span_exported_total{{error_type="",{I}}})', height=8),
        stat("Begun since start", "Spans that were begun and sampled since the processes started.",
             f'sum(otel_sdk_span_started_total{{otel_span_sampling_result="RECORD_AND_SAMPLE",{I}}})', height=8),
        bars("Export results", "Spans whose export ended since the processes started; those with an error type failed.",
             *by_error(f"otel_sdk_exporter_span_exported_total{{{I}}}")),
        series("Metric points exported", "Metric points whose export ended, each second. Only where metrics go out by "
            "OTLP.", "ops",
               by_error(f"rate(otel_sdk_exporter_metric_data_point_exported_total{{{I}}}{RATE})")),
    ]),
    ("Traces of failures", [
        series("Traces kept since they failed", "Traces that the sampler had refused and that are exported since a step of "
            "theirs failed, "
               "each second.", "ops", (f"sum by (instance) "
                                       f"(rate(triage_failure_trace_flagged_total{{{I}}}{RATE}))", "{{instance}}")),
        series("Traces of failures dropped", "Since the processes started: refused by the rate limit, or exported without "
            "all their spans "
               "(evicted from the buffer).", "short",
               (f"sum by (triage_failure_trace_drop_reason) (triage_failure_trace_dropped_total{{{I}}})",
                "{{triage_failure_trace_drop_reason}}")),
        series("Spans not exported", "Spans that ended each second without being exported, since nothing in their trace "
                                     "failed or a bound "
               "was reached.", "ops",
               (f"sum by (triage_unsampled_reason) (rate(triage_span_unsampled_total{{{I}}}{RATE}))",
                "{{triage_unsampled_reason}}"),
               stacked=True),
        series("Buffer", "Estimated bytes of ended spans that wait to see whether their trace fails.", "bytes",
               (f"sum by (instance) (triage_failure_trace_buffer_size_bytes{{{I}}})", "{{instance}}")),
        series("Spans in the buffer", "Ended spans that wait to see whether their trace fails.", "short",
               (f"sum by (instance) (triage_failure_trace_buffer_spans{{{I}}})", "{{instance}}")),
        stat("Kept since start", "Traces that the sampler had refused and that were exported since a step of theirs failed.",
             f"sum(triage_failure_trace_flagged_total{{{I}}})", width=8, height=8),
    ]),
    ("Scrapes and collection", [
        series("Duration of a scrape", "Time that Prometheus needed for /metrics.", "s",
               (f"max by (instance) (scrape_duration_seconds{{{I}}})", "{{instance}}")),
        series("Samples of a scrape", "Samples that /metrics brought.", "short",
               (f"sum by (instance) (scrape_samples_scraped{{{I}}})", "{{instance}}")),
        series("Time of an export", "Mean time of one export, its tries and waits included, by component.", "s",
               (f"sum by (otel_component_type) (rate(otel_sdk_exporter_operation_duration_seconds_sum{{{I}}}{RATE})) / "
                f"sum by (otel_component_type) (rate(otel_sdk_exporter_operation_duration_seconds_count{{{I}}}{RATE}))",
                "{{otel_component_type}}")),
        series("Time of a collection", "Mean time that a process needs to collect its metrics once, by reader.", "s",
               (f"sum by (otel_component_type) (rate(otel_sdk_metric_reader_collection_duration_seconds_sum{{{I}}}{RATE})) / "
                f"sum by (otel_component_type) (rate(otel_sdk_metric_reader_collection_duration_seconds_count{{{I}}}{RATE}))",
                "{{otel_component_type}}")),
        series("Reached", "1 if Prometheus reaches the process.", "none", (f"max by (instance) (up{{{I}}})", "{{instance}}"),
               maximum=1),
    ]),
]

DASHBOARDS = [
    ("triage-overview", "Triage: overview", "Throughput, latency, error rate, retries and dead letters, with the error budget.",
     OVERVIEW),
    ("triage-failures", "Triage: failures", "What fails, how often, how late it is retried, and what is left to do.", FAILURES),
    ("triage-pipeline", "Triage: pipeline", "Records in flight, lag, retries waiting, assignments, commits and "
        "processes.", PIPELINE),
    ("triage-telemetry", "Triage: telemetry", "Whether spans and metrics arrive: queue, drops, exports, scrapes.", TELEMETRY),
]
