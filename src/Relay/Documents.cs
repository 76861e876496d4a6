using System.Text.Json;
using System.Text.Json.Serialization;

namespace GpuTasks.Relay;

// The documents of PROTOCOL.md. Unknown members are ignored and missing ones have defaults, so that either side may be older.
// Settable members, because generated readers would lose the defaults of init-only ones.

/// <summary><c>config.json</c>.</summary>
internal sealed class RelayConfig
{
    public int Protocol { get; set; } = 1;

    public string InstanceId { get; set; } = "";

    public long Epoch { get; set; }

    public int Port { get; set; } = 9000;

    public int StartupTimeoutMs { get; set; } = 120_000;

    public HealthCheckConfig? HealthCheck { get; set; }

    public HookConfig? Initializer { get; set; }

    public HookConfig? PreStop { get; set; }

    public Dictionary<string, string> Headers { get; set; } = [];

    public int GraceMs { get; set; } = 10_000;

    public long LogBytes { get; set; } = 16 * 1024 * 1024;

    public long LogSegmentBytes { get; set; } = 4 * 1024 * 1024;

    public long MaxResponseBytes { get; set; } = 32 * 1024 * 1024;

    public int Concurrency { get; set; } = 1;

    public long NodeLostTimeoutMs { get; set; }

    public long ContactAgeMs { get; set; }
}

internal sealed class HealthCheckConfig
{
    public string Path { get; set; } = "/";

    public int InitialDelayMs { get; set; }

    public int PeriodMs { get; set; } = 1000;

    public int TimeoutMs { get; set; } = 1000;

    public int FailureThreshold { get; set; } = 3;

    public int SuccessThreshold { get; set; } = 1;
}

internal sealed class HookConfig
{
    public int TimeoutMs { get; set; } = 60_000;
}

/// <summary>The head of a run: <c>order.json</c> and the header of its PUT.</summary>
internal sealed class RunOrder
{
    public long Epoch { get; set; }

    public string Path { get; set; } = "/invoke";

    public string Method { get; set; } = "POST";

    public Dictionary<string, string> Headers { get; set; } = [];

    public long LimitMs { get; set; }

    public string Context { get; set; } = "";

    /// <summary>Whether the answer's headers are wanted.</summary>
    public bool AnswerHeaders { get; set; }

    /// <summary>Whether the answer is read while it is made, and bounded in memory alone.</summary>
    public bool Streams { get; set; }

    /// <summary>Length of a body that follows the order, -1 if that is not known; null if the order brings it.</summary>
    public long? BodyBytes { get; set; }

    /// <summary>A streamed answer that nobody reads for so long ends the run; 0: never.</summary>
    public long UnreadMs { get; set; }
}

/// <summary>Answer of <c>GET /status</c> and content of <c>status.json</c>.</summary>
internal sealed record StatusDocument
{
    public int Protocol { get; set; } = 1;

    /// <summary>This relay knows orders that stream.</summary>
    public bool Streams { get; set; } = true;

    public string InstanceId { get; set; } = "";

    public long Version { get; set; }

    public long Epoch { get; set; }

    public string State { get; set; } = States.Starting;

    public FailureDocument? Failure { get; set; }

    public ChildDocument Child { get; set; } = new();

    public long LogStart { get; set; }

    public long LogEnd { get; set; }

    public IReadOnlyList<RunDocument> Runs { get; set; } = [];
}

internal sealed record FailureDocument(string Kind, string Message);

internal sealed record ChildDocument
{
    public int Pid { get; set; }

    public bool Running { get; set; }

    public int? ExitCode { get; set; }

    public int? Signal { get; set; }

    public bool OomKilled { get; set; }
}

/// <summary><c>state.json</c> of a run.</summary>
internal sealed record RunDocument
{
    public string RunId { get; set; } = "";

    public string State { get; set; } = RunStates.Running;

    public string Context { get; set; } = "";

    public string? Outcome { get; set; }

    public int StatusCode { get; set; }

    public string FcStatus { get; set; } = "";

    public string ContentType { get; set; } = "";

    public long ResponseBytes { get; set; }

    /// <summary>Position in the answer of the first byte that was kept, if it was read while it was made.</summary>
    public long AnswerFrom { get; set; }

    public bool Truncated { get; set; }

    public string Message { get; set; } = "";

    public long StartedAtMs { get; set; }

    public long DurationMs { get; set; }

    public long LogFrom { get; set; }

    public long LogTo { get; set; }

    public long MaxMemoryBytes { get; set; }

    /// <summary>Headers of the answer, names and values in turn, if the order asked for them.</summary>
    public IReadOnlyList<string>? Headers { get; set; }
}

/// <summary>A line of <c>journal</c>: an order that was accepted, or an end with its answer if that is short.</summary>
internal sealed record JournalLine
{
    public string RunId { get; set; } = "";

    public RunOrder? Order { get; set; }

    public RunDocument? End { get; set; }

    /// <summary>In base64. As an array, generated writers would write none as an empty one.</summary>
    public string? Answer { get; set; }
}

internal sealed record ErrorDocument(string Error, string Message);

/// <summary>What stands before a streamed answer's body.</summary>
internal sealed record AnswerHead(int StatusCode, string FcStatus, IReadOnlyList<string> Headers);

/// <summary>How far a body that follows its order has come.</summary>
internal sealed record BodyReceipt(long Received, bool Closed);

internal static class States
{
    internal const string Starting = "starting";
    internal const string Ready = "ready";
    internal const string Retiring = "retiring";
    internal const string Failed = "failed";
    internal const string Stopping = "stopping";
    internal const string Ended = "ended";
}

internal static class Failures
{
    internal const string NeverListened = "never-listened";
    internal const string Unhealthy = "unhealthy";
    internal const string Initializer = "initializer";
    internal const string Exited = "exited";
    internal const string CannotStart = "cannot-start";
}

internal static class RunStates
{
    internal const string Running = "running";
    internal const string Ended = "ended";
}

internal static class Outcomes
{
    internal const string Answered = "answered";
    internal const string TimedOut = "timed-out";
    internal const string Cancelled = "cancelled";
    internal const string Crashed = "crashed";
    internal const string OutOfMemory = "out-of-memory";
    internal const string Disconnected = "disconnected";
    internal const string ContactLost = "contact-lost";
    internal const string Unread = "unread";
}

/// <summary>Generated readers and writers: a static binary has no reflection to fall back on.</summary>
[JsonSourceGenerationOptions(JsonSerializerDefaults.Web)]
[JsonSerializable(typeof(RelayConfig))]
[JsonSerializable(typeof(RunOrder))]
[JsonSerializable(typeof(StatusDocument))]
[JsonSerializable(typeof(RunDocument))]
[JsonSerializable(typeof(JournalLine))]
[JsonSerializable(typeof(ErrorDocument))]
[JsonSerializable(typeof(AnswerHead))]
[JsonSerializable(typeof(BodyReceipt))]
internal sealed partial class Json : JsonSerializerContext;
