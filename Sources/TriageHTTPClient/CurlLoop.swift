internal import CCurl
internal import Synchronization
internal import TriageEvents

/// The thread that all transfers happen on, and libcurl's multi handle, which keeps their connections.
///
/// `@unchecked Sendable`: `inbox` is a mutex's. `multi` is made in `init` and cleaned up in `deinit`, which can't run before the thread has
/// ended, since that holds a reference; between the two any thread may call `curl_multi_wakeup` (curl_multi_wakeup(3)) and only the
/// loop's thread calls anything else. `active` and `idle` are the loop's thread's alone.
final class CurlLoop: @unchecked Sendable {
    private struct Inbox {
        var submitted: [Transfer] = []
        var cancelled: [Transfer] = []
        var isClosed = false
        var isEmpty: Bool { submitted.isEmpty && cancelled.isEmpty && !isClosed }
    }
    private let inbox = Mutex(Inbox())
    private let multi: UnsafeMutableRawPointer
    private let options: CurlCaller.Options
    /// By easy handle.
    private var active: [UnsafeMutableRawPointer: Transfer] = [:]
    /// Handles to be used again: making one costs more than a call on a connection that is open.
    private var idle: [UnsafeMutableRawPointer] = []

    init?(_ options: CurlCaller.Options) {
        guard let multi = curl_multi_init() else { return nil }
        self.multi = multi
        self.options = options
        let connections = max(1, options.maximumConnections)
        triage_curl_multi_set_long(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, connections)
        triage_curl_multi_set_long(multi, CURLMOPT_MAXCONNECTS, connections)
    }

    deinit {
        for easy in idle { curl_easy_cleanup(easy) }
        curl_multi_cleanup(multi)
    }

    /// Begins the thread; false if the system has none left.
    func start() -> Bool {
        WorkerThread.start("triage-http") { self.run() }
    }

    /// Hands a transfer in; false if the loop is closed.
    func submit(_ transfer: Transfer) -> Bool {
        let (isTaken, wasEmpty) = inbox.withLock { inbox in
            guard !inbox.isClosed else { return (false, false) }
            let wasEmpty = inbox.isEmpty
            inbox.submitted.append(transfer)
            return (true, wasEmpty)
        }
        if wasEmpty { curl_multi_wakeup(multi) }
        return isTaken
    }

    /// Ends a transfer, which may not have been handed in yet, or be over already.
    func cancel(_ transfer: Transfer) {
        transfer.isCancelled.store(true, ordering: .releasing)
        let wasEmpty = inbox.withLock { inbox in
            guard !inbox.isClosed else { return false }
            let wasEmpty = inbox.isEmpty
            inbox.cancelled.append(transfer)
            return wasEmpty
        }
        if wasEmpty { curl_multi_wakeup(multi) }
    }

    /// Ends all transfers and the thread; returns at once.
    func close() {
        inbox.withLock { $0.isClosed = true }
        curl_multi_wakeup(multi)
    }

    private func run() {
        while true {
            let mail = inbox.withLock { inbox in
                defer { (inbox.submitted, inbox.cancelled) = ([], []) }
                return inbox
            }
            if mail.isClosed {
                for transfer in mail.submitted { transfer.finish(.failure(HTTPCallError(.closed))) }
                for transfer in Array(active.values) { end(transfer, .failure(HTTPCallError(.closed))) }
                return
            }
            for transfer in mail.submitted { begin(transfer) }
            for transfer in mail.cancelled where transfer.easy != nil { end(transfer, .failure(HTTPCallError(.cancelled))) }
            var running: Int32 = 0
            curl_multi_perform(multi, &running)
            collect()
            // Woken by what comes in, by sockets, and by libcurl's own timers; the limit is only for the case that none of them works.
            curl_multi_poll(multi, nil, 0, active.isEmpty ? 60_000 : 1000, nil)
        }
    }

    private func begin(_ transfer: Transfer) {
        guard !transfer.isCancelled.load(ordering: .acquiring) else {
            return transfer.finish(.failure(HTTPCallError(.cancelled)))
        }
        guard let easy = idle.popLast() ?? curl_easy_init() else { return transfer.finish(.failure(HTTPCallError(.other))) }
        transfer.configure(easy, options)
        active[easy] = transfer
        if curl_multi_add_handle(multi, easy) != CURLM_OK { end(transfer, .failure(HTTPCallError(.other))) }
    }

    private func collect() {
        var left: Int32 = 0
        while let message = curl_multi_info_read(multi, &left) {
            guard message.pointee.msg == CURLMSG_DONE, let easy = message.pointee.easy_handle, let transfer = active[easy] else {
                continue
            }
            end(transfer, transfer.result(message.pointee.data.result))
        }
    }

    /// Takes the handle back before the caller goes on.
    private func end(_ transfer: Transfer, _ result: Result<HTTPAnswer, HTTPCallError>) {
        if let easy = transfer.easy {
            active[easy] = nil
            curl_multi_remove_handle(multi, easy)
            // Also forgets the callbacks' context and what was sent.
            curl_easy_reset(easy)
            transfer.release()
            if idle.count < 32 { idle.append(easy) } else { curl_easy_cleanup(easy) }
        }
        transfer.finish(result)
    }
}
