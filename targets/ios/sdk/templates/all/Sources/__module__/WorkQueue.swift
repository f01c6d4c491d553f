import Foundation

/// Work that takes long, done one piece after another on a thread of its own: it keeps neither the main thread nor one
/// of Swift's concurrency waiting.
final class WorkQueue: Sendable {
    private let queue: DispatchQueue

    init(label: String) {
        queue = DispatchQueue(label: label, qos: .userInitiated)
    }

    /// What `work` gives.
    ///
    /// - Throws: what `work` throws, or `CancellationError` as soon as the task is cancelled. Work that has not begun by
    ///   then is never done; what other work still gives is dropped where it was made.
    func run<Output: Sendable>(_ work: @escaping @Sendable () throws -> Output) async throws -> Output {
        let call = Call<Output>()
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                call.begin(continuation)
                queue.async {
                    if call.isWanted {
                        call.end(Result(catching: work))
                    }
                }
            }
        } onCancel: {
            call.end(.failure(CancellationError()))
        }
    }

    /// Lets go of a value on the queue, after all work that was asked for before. Whoever has `held` still does not keep the
    /// value: that would free it on the thread that calls, where the queue is faster.
    func release<Value>(_ held: Held<Value>) {
        queue.async { held.value = nil }
    }
}

/// Who waits for a piece of work: answered once, by the work or by a cancellation, whichever comes first.
private final class Call<Output: Sendable>: @unchecked Sendable {
    private enum State {
        case new
        case waiting(CheckedContinuation<Output, Error>)
        case ended
    }

    /// Held for some instructions at a time.
    private let lock = NSLock()
    private var state = State.new

    var isWanted: Bool {
        lock.withLock {
            if case .waiting = state { true } else { false }
        }
    }

    func begin(_ continuation: CheckedContinuation<Output, Error>) {
        let isCancelled = lock.withLock {
            if case .ended = state {
                return true
            }
            state = .waiting(continuation)
            return false
        }
        if isCancelled {
            continuation.resume(throwing: CancellationError())
        }
    }

    func end(_ result: Result<Output, Error>) {
        let last = lock.withLock {
            defer { state = .ended }
            return state
        }
        if case .waiting(let continuation) = last {
            continuation.resume(with: result)
        }
    }
}

/// What only one queue touches: it may be handed to another thread.
final class Held<Value>: @unchecked Sendable {
    /// There until the queue is asked to release it.
    fileprivate(set) var value: Value!

    init(_ value: Value) {
        self.value = value
    }
}
