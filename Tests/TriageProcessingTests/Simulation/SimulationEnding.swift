import Testing
import TriageEvents

@testable import TriageProcessing

extension SimulatedWorld {
    /// Runs until everything is finished and committed, stops everyone, and expects that nothing was wrong, of traces either.
    func finish(within seconds: Int64 = 300, sourceLocation: SourceLocation = #_sourceLocation) {
        pass(until: seconds * 1_000_000_000) {
            referee.unfinished.isEmpty
                && broker.logs.allSatisfy { $0.kind == .deadLetter || ($0.committed?.offset ?? 0) == $0.next }
        }
        referee.expectRest()
        for engine in engines { engine.stop() }
        pass(until: 100_000_000_000) { running == 0 }
        #expect(running == 0, sourceLocation: sourceLocation)
        if violations.isEmpty {
            var judge = TraceJudge(self)
            if let problem = judge.judge() { violate(problem) }
        }
        if !violations.isEmpty { Issue.record("\(tail())", sourceLocation: sourceLocation) }
        destroy()
    }
}
