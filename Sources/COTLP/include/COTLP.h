#pragma once
// What protoc-c makes of Proto/ (.ci/generate-otlp), for Swift. The logs messages ride along for the golden vectors.
#include "opentelemetry/proto/collector/logs/v1/logs_service.pb-c.h"
#include "opentelemetry/proto/collector/metrics/v1/metrics_service.pb-c.h"
#include "opentelemetry/proto/collector/trace/v1/trace_service.pb-c.h"
