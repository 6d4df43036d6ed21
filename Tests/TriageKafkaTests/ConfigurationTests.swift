import Testing
import TriageKafka
@Test func placeholder() {}
