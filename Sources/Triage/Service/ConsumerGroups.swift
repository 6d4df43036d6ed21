internal import TriageEvents

extension Configuration {
    /// One of the groups that a service reads topics as.
    package struct ConsumerGroup: Sendable, Hashable {
        /// The group's name.
        package let name: String
        /// What it reads.
        package let topics: [String]
    }

    /// The name of the group that carries commands out.
    var commandGroup: String { group + "-commands" }
    /// The name of the group that publishes what change data capture writes.
    var changeDataGroup: String { group + "-change-data" }

    /// The groups of a ``TriageService`` with a handler; none if it only takes in what is sent.
    package var consumerGroups: [ConsumerGroup] {
        var groups: [ConsumerGroup] = []
        if handlesEvents { groups.append(ConsumerGroup(name: group, topics: topics)) }
        if !changeDataTopics.isEmpty { groups.append(ConsumerGroup(name: changeDataGroup, topics: changeDataTopics)) }
        if commands != nil, fhir != nil { groups.append(ConsumerGroup(name: commandGroup, topics: [TopicName.commands])) }
        return groups
    }
}
