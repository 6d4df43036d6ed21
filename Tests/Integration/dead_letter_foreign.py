"""Dead letters that others wrote, and that nobody should have written."""

import base64
import json

from dead_letter_world import DLQ, GROUP, RETRY, TOPIC


def number(value, count):
    return value.to_bytes(count, "big", signed=True)


FOREIGN = {
    "spring": [
        ("kafka_dlt-original-topic", TOPIC.encode()), ("kafka_dlt-original-partition", number(1, 4)),
        ("kafka_dlt-original-offset", number(300, 8)), ("kafka_dlt-original-timestamp", number(1764000000000, 8)),
        ("kafka_dlt-original-consumer-group", b"billing"), ("kafka_dlt-exception-fqcn", b"org.springframework.kafka.listener.ListenerExecutionFailedException"),
        ("kafka_dlt-exception-cause-fqcn", b"java.lang.IllegalStateException"), ("kafka_dlt-exception-message", b"CANARY \x1b[2J died"),
        ("kafka_dlt-exception-stacktrace", b"at CANARY.Patient(Patient.java:1)"), ("retry_topic-attempts", number(4, 4))],
    "connect": [
        ("__connect.errors.topic", TOPIC.encode()), ("__connect.errors.partition", b"2"), ("__connect.errors.offset", b"17"),
        ("__connect.errors.connector.name", b"patients-sink"), ("__connect.errors.task.id", b"0"), ("__connect.errors.stage", b"VALUE_CONVERTER"),
        ("__connect.errors.class.name", b"org.apache.kafka.connect.json.JsonConverter"),
        ("__connect.errors.exception.class.name", b"org.apache.kafka.connect.errors.DataException"),
        ("__connect.errors.exception.message", b"CANARY"), ("__connect.errors.exception.stacktrace", b"CANARY")],
    "streams": [
        ("__streams.errors.exception", b"org.apache.kafka.streams.errors.StreamsException"), ("__streams.errors.message", b"CANARY"),
        ("__streams.errors.stacktrace", b"CANARY"), ("__streams.errors.topic", TOPIC.encode()), ("__streams.errors.partition", b"0"),
        ("__streams.errors.offset", b"9")],
}


def foreign(report, world):
    """What Spring, Kafka Connect and Kafka Streams leave is listed, grouped and shown."""
    def base64_of(data):
        return None if data is None else base64.b64encode(data).decode()
    body = json.dumps({"resourceType": "Patient", "id": "CANARY-id-foreign", "CANARY-member": {"name": "CANARY"}}).encode()
    file = world.room.path("foreign.ndjson")
    file.write_text("".join(json.dumps({
        "topic": DLQ, "partition": 0, "offset": index, "timestamp": 0, "key": base64_of(b"CANARY-id-foreign"), "value": base64_of(body),
        "headers": [[base64_of(name.encode()), base64_of(value)] for name, value in headers]}) + "\n"
        for index, headers in enumerate(FOREIGN.values())))
    report.equal("foreign ones are written", world.json("import", str(file), "--execute")["written"], 3)
    found_ones = {letter["dialect"]: letter for letter in world.json("list", "--limit", "1000") if letter["dialect"] != "triage"}
    report.equal("foreign ones are listed", set(found_ones), set(FOREIGN))
    told = {d: (l.get("origin"), l.get("group"), l["retries"], l["error"].split(".")[-1]) for d, l in found_ones.items()}
    report.equal("foreign ones: Spring", told["spring"], (f"{TOPIC}/1/300", "billing", 3, "IllegalStateException"))
    report.equal("foreign ones: Connect", told["connect"], (f"{TOPIC}/2/17", "patients-sink", 0, "DataException at VALUE_CONVERTER"))
    report.equal("foreign ones: Streams", told["streams"], (f"{TOPIC}/0/9", None, 0, "StreamsException"))
    report.equal("foreign ones are grouped", len([g for g in world.json("groups") if g["dialect"] != "triage"]), 3)
    for dialect, letter in found_ones.items():
        page = world.json("show", letter["id"])
        hidden = [h["name"] for h in page["headers"] if "message" in h["name"] or "stacktrace" in h["name"]]
        shown_ones = {h["name"]: h.get("value") for h in page["headers"]}
        report.check(f"foreign ones: {dialect}'s texts are not shown", hidden and not any(shown_ones[name] for name in hidden), shown_ones)
        report.check(f"foreign ones: {dialect}'s shape", {"id", "_OTHER.name"} <= {line["path"] for line in page["shape"]}, page["shape"])
    text = world.dlq("show", found_ones["spring"]["id"], "--reveal", keep=False).out()
    report.check("revealed text can't move the cursor", "CANARY \\u{1b}[2J died" in text and "\x1b" not in text, text)
    plan = world.json("replay", found_ones["streams"]["id"], "-g", "other")
    report.equal("foreign ones can be replayed to a group", plan["targets"], {f"{RETRY}, for the group other": 1})


def strange(report, world):
    """What anybody who may write to the topic can write there: nothing of it shows, and it holds up nobody."""
    def written(headers, key=b"CANARY-id-strange"):
        world.kcat.write(DLQ, b'{"resourceType":"Patient"}', key=key, headers=headers)
        return next(message.position for message in reversed(world.letters()) if message.key == key)

    forged = written([
        ("triage-origin", f"{TOPIC}/0/1".encode()), ("error", b"RejectedError CANARY_1931-07-19"), ("triage-group", b"CANARY@example.org"),
        ("triage-error-type", b"RejectedError CANARY_1931-07-19"), ("CANARY_1931-07-19", b"1"), ("triage-error-class", b"CANARY")])
    page = world.json("show", forged)
    report.equal(
        "forged headers: what isn't ours isn't shown", (page["error"], page.get("group"), page.get("error_class")),
        ("RejectedError (not shown)", None, None))
    for words in (["show", forged], ["list", "--limit", "3"], ["groups"]):
        out = world.dlq(*words).out()
        report.check(f"forged headers: {words[0]}", "CANARY" not in out and "(not shown)" in out, out)
    text = world.explain(forged)
    report.check("forged headers: explain", "CANARY" not in text.out() + text.err() and "(not shown)" in text.out(), text.out() + text.err())
    lost = written(
        [("triage-origin", f"{TOPIC}/77/1".encode()), ("triage-group", GROUP.encode()), ("triage-error-fingerprint", b"00000000000000bb")],
        key=b"CANARY-id-lost")
    reason = f"there is no partition 77 of {RETRY} to write it to"
    dry_run = world.json("replay", "--fingerprint", "00000000000000bb", expect=1)
    report.equal("no partition: the dry run names it", (dry_run["count"], dry_run["refusals"]), (0, [{"id": lost, "reason": reason}]))
    done = world.json("replay", "--fingerprint", "00000000000000bb", "--execute", expect=1)
    report.equal("no partition: so does the replay", (done["replayed"], done["refusals"]), (0, [{"id": lost, "reason": reason}]))
    for position in (forged, lost):
        world.dlq("discard", position, "--reason", "strange", "--execute")
