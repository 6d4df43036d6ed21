#!/usr/bin/env python3
"""Decodes OTLP request bodies with the official classes and prints what a receiver would read, as JSON.

    decode_otlp.py [--signal traces|metrics|logs] [--identical] FILE...

A file holds one body, plain or gzip; `-` is standard input. An unknown field at any depth, an id of the wrong length, or
a body that is no request ends the program with status 1 and says where; with --identical so does one that the classes
would write in other bytes. Needs `pip install opentelemetry-proto`.
"""

import argparse
import gzip
import json
import sys

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

REQUESTS = {
    "traces": ExportTraceServiceRequest,
    "metrics": ExportMetricsServiceRequest,
    "logs": ExportLogsServiceRequest,
}


class Invalid(Exception):
    """What a strict receiver would object to."""


def refuse_unknown_fields(message: Message, path: str) -> None:
    unknown = [f"{field.field_number} (wire type {field.wire_type})" for field in UnknownFieldSet(message)]
    if unknown:
        raise Invalid(f"{path}: unknown fields {', '.join(unknown)}")
    for field, value in message.ListFields():
        if field.type != FieldDescriptor.TYPE_MESSAGE:
            continue
        children = list(value) if field.is_repeated else [value]
        for index, child in enumerate(children):
            refuse_unknown_fields(child, f"{path}.{field.name}[{index}]" if field.is_repeated else f"{path}.{field.name}")


def refuse_other_bytes(request: Message, body: bytes) -> None:
    """What is written anew, in the order of the field numbers, must be what came, byte for byte."""
    again = request.SerializeToString(deterministic=True)
    if again != body:
        place = next((i for i, pair in enumerate(zip(again, body)) if pair[0] != pair[1]), min(len(again), len(body)))
        raise Invalid(f"{len(body)} bytes came, the official classes write {len(again)}; they differ from byte {place} on")


def plain_value(value):
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [plain_value(element) for element in value.array_value.values]
    if kind == "kvlist_value":
        return attributes(value.kvlist_value.values)
    if kind == "bytes_value":
        return value.bytes_value.hex()
    return getattr(value, kind)


def attributes(pairs) -> dict:
    result = {}
    for pair in pairs:
        if pair.key in result:
            raise Invalid(f"attribute {pair.key} occurs twice")
        result[pair.key] = plain_value(pair.value)
    return result


def identifier(data: bytes, length: int, name: str, may_be_empty: bool = False) -> str:
    if not data and may_be_empty:
        return ""
    if len(data) != length or not any(data):
        raise Invalid(f"{name} is no id of {length} bytes")
    return data.hex()


def describe_span(span) -> dict:
    if not span.name:
        raise Invalid("a span has no name")
    if span.end_time_unix_nano < span.start_time_unix_nano:
        raise Invalid(f"{span.name} ends before it starts")
    return {
        "traceId": identifier(span.trace_id, 16, "trace_id"),
        "spanId": identifier(span.span_id, 8, "span_id"),
        "parentSpanId": identifier(span.parent_span_id, 8, "parent_span_id", may_be_empty=True),
        "traceState": span.trace_state,
        "name": span.name,
        "kind": Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        "start": span.start_time_unix_nano,
        "end": span.end_time_unix_nano,
        "flags": span.flags,
        "attributes": attributes(span.attributes),
        "events": [
            {"name": event.name, "time": event.time_unix_nano, "attributes": attributes(event.attributes),
             "droppedAttributes": event.dropped_attributes_count}
            for event in span.events
        ],
        "links": [
            {"traceId": identifier(link.trace_id, 16, "link trace_id"), "spanId": identifier(link.span_id, 8, "link span_id"),
             "traceState": link.trace_state, "flags": link.flags, "attributes": attributes(link.attributes),
             "droppedAttributes": link.dropped_attributes_count}
            for link in span.links
        ],
        "status": {"code": Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"), "message": span.status.message},
        "droppedAttributes": span.dropped_attributes_count,
        "droppedEvents": span.dropped_events_count,
        "droppedLinks": span.dropped_links_count,
    }


def describe_traces(request) -> list:
    spans = []
    for resource_spans in request.resource_spans:
        resource = attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            scope = {"name": scope_spans.scope.name, "version": scope_spans.scope.version}
            for span in scope_spans.spans:
                spans.append(describe_span(span) | {"resource": resource, "scope": scope, "schemaUrl": scope_spans.schema_url})
    return spans


def main() -> int:
    parser = argparse.ArgumentParser(description="Decode OTLP request bodies strictly and print them as JSON.")
    parser.add_argument("--signal", choices=sorted(REQUESTS), default="traces")
    parser.add_argument("--identical", action="store_true", help="refuse what the official classes would write differently")
    parser.add_argument("files", nargs="+", metavar="FILE")
    arguments = parser.parse_args()
    result = []
    for name in arguments.files:
        if name == "-":
            body = sys.stdin.buffer.read()
        else:
            with open(name, "rb") as file:
                body = file.read()
        try:
            if body[:2] == b"\x1f\x8b":
                body = gzip.decompress(body)
            request = REQUESTS[arguments.signal].FromString(body)
            refuse_unknown_fields(request, type(request).__name__)
            if arguments.identical:
                refuse_other_bytes(request, body)
            if arguments.signal == "traces":
                result += describe_traces(request)
            else:
                result.append(MessageToDict(request))
        except (DecodeError, Invalid, OSError, EOFError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
    json.dump(result, sys.stdout, indent=1, ensure_ascii=False)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
