public import TriageEvents

/// The retry policies of an installation: one for everything, and others for a topic, a class of errors, or both.
///
/// The most particular one counts, whole: nothing of the others is mixed in.
public struct RetryPolicies: Sendable, Hashable {
    /// A topic and a class of errors.
    public struct Place: Sendable, Hashable {
        /// The main topic.
        public let topic: String
        /// The class of the failure; a persistent one is never retried.
        public let errorClass: ErrorClass

        /// Failures of this class in this topic.
        public init(topic: String, errorClass: ErrorClass) {
            self.topic = topic
            self.errorClass = errorClass
        }
    }

    /// For everything that no other one is named for.
    public var standard: RetryPolicy
    /// For failures of a class, in any topic that none is named for.
    public var byClass: [ErrorClass: RetryPolicy] = [:]
    /// For failures in a main topic, of whatever class.
    public var byTopic: [String: RetryPolicy] = [:]
    /// For failures of a class in a main topic.
    public var byPlace: [Place: RetryPolicy] = [:]

    /// One policy for everything.
    public init(_ standard: RetryPolicy = RetryPolicy()) { self.standard = standard }

    /// The policy for a failure: that of topic and class, else of the topic, else of the class, else the standard.
    public func policy(for errorClass: ErrorClass, topic: String?) -> RetryPolicy {
        if let topic {
            if !byPlace.isEmpty, let policy = byPlace[Place(topic: topic, errorClass: errorClass)] { return policy }
            if let policy = byTopic[topic] { return policy }
        }
        return byClass[errorClass] ?? standard
    }
}
