internal import Glibc

/// What the process has used so far.
public struct ResourceUsage: Sendable, Hashable {
    /// Seconds of CPU time in user mode.
    public let userSeconds: Double
    /// Seconds of CPU time in the kernel.
    public let systemSeconds: Double
    /// The most memory that was ever resident, in bytes.
    public let maximumResidentBytes: Int64

    /// Seconds of CPU time in both modes.
    public var cpuSeconds: Double { userSeconds + systemSeconds }

    /// This process's usage up to now; all its threads, no children (getrusage(2), `RUSAGE_SELF`).
    public static func now() -> ResourceUsage {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
        // ru_maxrss is in KiB on Linux.
        return ResourceUsage(
            userSeconds: seconds(usage.ru_utime), systemSeconds: seconds(usage.ru_stime),
            maximumResidentBytes: Int64(usage.ru_maxrss) * 1024)
    }
}

/// The process's own metrics, read from the kernel when they are collected. What can't be read isn't reported.
public enum ProcessMetrics {
    /// Has `meter` collect `process.cpu.time`, `.memory.usage`, `.unix.file_descriptor.count`, `.thread.count` and `.uptime`.
    public static func register(on meter: Meter) {
        meter.observe(.processCPUTime) {
            let usage = ResourceUsage.now()
            return [(["cpu.mode": "user"], .double(usage.userSeconds)), (["cpu.mode": "system"], .double(usage.systemSeconds))]
        }
        meter.observe(.processMemoryUsage) { only(residentBytes.map { .int($0) }) }
        meter.observe(.processFileDescriptorCount) { only(fileDescriptorCount.map { .int($0) }) }
        meter.observe(.processThreadCount) { only(threadCount.map { .int($0) }) }
        meter.observe(.processUptime) { only(uptimeSeconds.map { .double($0) }) }
    }

    /// Memory resident now, in bytes (proc(5), `/proc/self/statm`).
    static var residentBytes: Int64? {
        guard let fields = read("/proc/self/statm")?.split(separator: UInt8(ascii: " ")), fields.count > 1 else { return nil }
        return number(fields[1]).map { $0 * Int64(sysconf(Int32(_SC_PAGESIZE))) }
    }

    /// Open descriptors, less the one that counting them needs.
    static var fileDescriptorCount: Int64? {
        guard let directory = opendir("/proc/self/fd") else { return nil }
        defer { closedir(directory) }
        var count: Int64 = 0
        while let entry = readdir(directory) {
            if entry.pointee.d_name.0 != CChar(UInt8(ascii: ".")) { count += 1 }
        }
        return count - 1
    }

    /// Threads (proc(5), `/proc/self/stat`, field 20).
    static var threadCount: Int64? { statField(20) }

    /// Seconds since the process began (field 22, in clock ticks since the boot).
    static var uptimeSeconds: Double? {
        guard let start = statField(22) else { return nil }
        var now = timespec()
        clock_gettime(CLOCK_BOOTTIME, &now)
        let seconds = Double(now.tv_sec) + Double(now.tv_nsec) / 1e9 - Double(start) / Double(sysconf(Int32(_SC_CLK_TCK)))
        return max(0, seconds)
    }

    private static func only(_ value: ObservedValue?) -> [(MetricAttributes, ObservedValue)] {
        guard let value else { return [] }
        return [([:], value)]
    }

    /// Field `index`, counted from 1, at least 3. Field 2, the program's name, may hold blanks: counting starts behind its `)`.
    private static func statField(_ index: Int) -> Int64? {
        guard let bytes = read("/proc/self/stat"), let name = bytes.lastIndex(of: UInt8(ascii: ")")) else { return nil }
        let fields = bytes[(name + 1)...].split(separator: UInt8(ascii: " "))
        return fields.count > index - 3 ? number(fields[index - 3]) : nil
    }

    private static func number(_ digits: ArraySlice<UInt8>) -> Int64? { Int64(String(decoding: digits, as: UTF8.self)) }

    /// The first 4,096 bytes of a small file.
    private static func read(_ path: String) -> [UInt8]? {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        let bytes = [UInt8](unsafeUninitializedCapacity: 4096) { buffer, count in
            count = max(0, Glibc.read(file, buffer.baseAddress, buffer.count))
        }
        return bytes.isEmpty ? nil : bytes
    }
}
