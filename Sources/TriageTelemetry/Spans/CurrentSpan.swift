internal import Synchronization
public import TriageEvents

/// The trace context that the current task works in; nil outside any span.
///
/// What log lines, exemplars and records sent without a parent are joined by. See ``CurrentSpan`` for how it is found.
public func currentTraceContext() -> TraceContext? { CurrentSpan.context }

/// Finds the span that the current task works in.
///
/// ``Span/current`` knows the spans that Triage itself began. A bridge to another tracing interface, whose spans lie inside of
/// those, installs a lookup of its own, which is asked first.
public enum CurrentSpan {
    /// Finds a context in the current task; called on any thread, often, and must neither block nor log.
    public typealias Lookup = @Sendable () -> TraceContext?

    /// The one lookup of the process, behind a flag, so that nobody takes the lock where no bridge is used.
    private static let isInstalled = Atomic<Bool>(false)
    private static let installed = Mutex<Lookup?>(nil)

    /// Has `lookup` asked before ``Span/current``; replaces an earlier one, and nil removes it.
    ///
    /// It returns the innermost span that it knows, or nil if it knows none in this task; an invalid context counts as nil.
    public static func install(_ lookup: Lookup?) {
        installed.withLock { $0 = lookup }
        isInstalled.store(lookup != nil, ordering: .releasing)
    }

    /// The context of the innermost span of the current task; never an invalid one.
    public static var context: TraceContext? {
        if isInstalled.load(ordering: .acquiring), let lookup = installed.withLock({ $0 }), let context = lookup(),
            context.isValid
        {
            return context
        }
        guard let context = Span.current?.context, context.isValid else { return nil }
        return context
    }
}
