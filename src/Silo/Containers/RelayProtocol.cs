using System.Text.Json;

namespace GpuTasks.Containers;

/// <summary>How documents shared with the relay are written; see <c>src/Relay/PROTOCOL.md</c>.</summary>
internal static class RelayJson
{
    public static readonly JsonSerializerOptions Options = new(JsonSerializerDefaults.Web) { MaxDepth = 16 };
}

/// <summary>Health check as the relay wants it.</summary>
internal sealed record RelayHealthCheck(string Path, int InitialDelayMs, int PeriodMs, int TimeoutMs, int FailureThreshold, int SuccessThreshold);

/// <summary>A hook's time limit.</summary>
internal sealed record RelayHook(int TimeoutMs);

/// <summary>The relay's <c>config.json</c>.</summary>
internal sealed record RelayConfig
{
    public int Protocol { get; init; } = 1;

    public required string InstanceId { get; init; }

    public required long Epoch { get; init; }

    public required int Port { get; init; }

    public required int StartupTimeoutMs { get; init; }

    public RelayHealthCheck? HealthCheck { get; init; }

    public RelayHook? Initializer { get; init; }

    public RelayHook? PreStop { get; init; }

    public required IReadOnlyDictionary<string, string> Headers { get; init; }

    public required int GraceMs { get; init; }

    public required long LogBytes { get; init; }

    public required long LogSegmentBytes { get; init; }

    public required long MaxResponseBytes { get; init; }

    public required int Concurrency { get; init; }

    public long NodeLostTimeoutMs { get; init; }

    public long ContactAgeMs { get; init; }
}

/// <summary>Head of an order to run.</summary>
internal sealed record RelayOrder(long Epoch, string Path, string Method, IReadOnlyDictionary<string, string> Headers, long LimitMs, string Context, bool AnswerHeaders = false)
{
    /// <summary>Whether the answer is read while it is made.</summary>
    public bool Streams { get; init; }

    /// <summary>Length of a body that follows, -1 for unknown; null if the order brings it.</summary>
    public long? BodyBytes { get; init; }

    /// <summary>After how long an answer that nobody reads ends the run.</summary>
    public long UnreadMs { get; init; }
}

/// <summary>What stands before a streamed answer. The tenant's word.</summary>
internal sealed record RelayAnswerHead(int StatusCode, IReadOnlyList<string?>? Headers);

/// <summary>A part of a streamed answer.</summary>
internal sealed record RelayAnswerPart(RelayAnswerHead Head, byte[] Data);

/// <summary>How far a body has come. The tenant's word.</summary>
internal sealed record RelayBodyReceipt(long Received, bool Closed);

/// <summary>Why an instance failed, in the relay's words.</summary>
internal sealed record RelayFailure(string? Kind, string? Message);

/// <summary>The function's process.</summary>
internal sealed record RelayChild(int Pid, bool Running, int? ExitCode, int? Signal, bool OomKilled);

/// <summary>One run as the relay tells it. Everything in it is the tenant's word.</summary>
internal sealed record RelayRun
{
    public string RunId { get; init; } = "";

    public string State { get; init; } = "";

    public string? Context { get; init; }

    public string? Outcome { get; init; }

    public int StatusCode { get; init; }

    public string? FcStatus { get; init; }

    public string? ContentType { get; init; }

    public long ResponseBytes { get; init; }

    public long AnswerFrom { get; init; }

    public bool Truncated { get; init; }

    public string? Message { get; init; }

    public long StartedAtMs { get; init; }

    public long DurationMs { get; init; }

    public long LogFrom { get; init; }

    public long LogTo { get; init; }

    public long MaxMemoryBytes { get; init; }

    public IReadOnlyList<string?>? Headers { get; init; }

    public bool Ended => State == "ended";
}

/// <summary>A line of the relay's journal, as far as the agent reads it: how a run ended, and its answer if that is short.</summary>
internal sealed record RelayJournalLine(string? RunId, RelayRun? End, byte[]? Answer);

/// <summary>The relay's status document.</summary>
internal sealed record RelayStatus
{
    public string InstanceId { get; init; } = "";

    public long Version { get; init; }

    /// <summary>Whether it knows orders that stream; relays of before do not say so.</summary>
    public bool Streams { get; init; }

    public string State { get; init; } = "";

    public RelayFailure? Failure { get; init; }

    public RelayChild? Child { get; init; }

    public long LogStart { get; init; }

    public long LogEnd { get; init; }

    public IReadOnlyList<RelayRun> Runs { get; init; } = [];
}
