using GpuTasks.Functions;
using GpuTasks.Quota;
using GpuTasks.Tasks;

namespace GpuTasks.Nodes;

/// <summary>Start an instance for a lease. Idempotent by the lease's instance id.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.LaunchOrder")]
public sealed record LaunchOrder
{
    /// <summary>The lease it is for.</summary>
    [Id(0)] public required Lease Lease { get; init; }

    /// <summary>Definition to start.</summary>
    [Id(1)] public required FunctionSpec Spec { get; init; }

    /// <summary>Revision of that definition.</summary>
    [Id(2)] public required int Revision { get; init; }

    /// <summary>Version whose definition it is, or null for <c>LATEST</c>.</summary>
    [Id(3)] public string? Version { get; init; }
}

/// <summary>Answer to a launch order.</summary>
public enum LaunchOutcome
{
    /// <summary>It is under way or done; how it goes is told by instance reports.</summary>
    Accepted = 0,

    /// <summary>The lease is older than what the node knows; it has no effect.</summary>
    StaleLease = 1,

    /// <summary>The node is not ready for launches or has no clean room yet; ask again.</summary>
    Busy = 2,
}

/// <summary>Run one attempt on an instance. Idempotent by <see cref="RunId"/>.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.RunOrder")]
public sealed record RunOrder
{
    /// <summary><c>{taskId}.{attempt}</c> for a task; the request id for a synchronous call.</summary>
    [Id(0)] public required string RunId { get; init; }

    /// <summary>Instance to run on.</summary>
    [Id(1)] public required string InstanceId { get; init; }

    /// <summary>Task whose attempt it is, or null for a synchronous call.</summary>
    [Id(2)] public TaskKey? Task { get; init; }

    /// <summary>Attempt, counted from 1; 0 for a synchronous call.</summary>
    [Id(3)] public int Attempt { get; init; }

    /// <summary>Id of the call, handed to the function.</summary>
    [Id(4)] public required string RequestId { get; init; }

    /// <summary>Version or alias, handed to the function.</summary>
    [Id(5)] public string Qualifier { get; init; } = "LATEST";

    /// <summary>Counted retries before this attempt, handed to the function.</summary>
    [Id(6)] public int RetryCount { get; init; }

    /// <summary>Longest run; the relay ends it by its own monotonic clock.</summary>
    [Id(7)] public required TimeSpan Limit { get; init; }

    /// <summary>The event.</summary>
    [Id(8)] public byte[] Payload { get; init; } = [];

    /// <summary>Whether the task can be queried, so that its id is handed to the function.</summary>
    [Id(9)] public bool Recorded { get; init; }

    /// <summary>HTTP request to hand on as it came, with <see cref="Payload"/> as its body; null for an event.</summary>
    [Id(20)] public HttpCall? Http { get; init; }

    /// <summary>Whether the answer to an <see cref="HttpCall"/> is read while it is made, by <see cref="INodeGrain.ReadAnswer"/>.</summary>
    [Id(21)] public bool Streams { get; init; }

    /// <summary>Length of a body that follows by <see cref="INodeGrain.SendBody"/> in place of <see cref="Payload"/>, -1 if nobody knows it; null for none such.</summary>
    [Id(22)] public long? BodyBytes { get; init; }
}

/// <summary>One header.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.HttpField")]
public sealed record HttpField([property: Id(0)] string Name, [property: Id(1)] string Value);

/// <summary>What stands before the body of an HTTP request that a trigger hands on.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.HttpCall")]
public sealed record HttpCall
{
    /// <summary>Method.</summary>
    [Id(0)] public required string Method { get; init; }

    /// <summary>Path and query for the function's web server, as on a request line: starts with <c>/</c>, nothing decoded.</summary>
    [Id(1)] public required string Target { get; init; }

    /// <summary>What was taken off the path before it, as in <c>x-fc-base-path</c>.</summary>
    [Id(2)] public string BasePath { get; init; } = "";

    /// <summary>Headers; at most 8 KiB together.</summary>
    [Id(3)] public IReadOnlyList<HttpField> Headers { get; init; } = [];
}

/// <summary>Answer to a run order.</summary>
public enum StartRunOutcome
{
    /// <summary>The order is durable on the instance; its end will be reported. Also the answer to a repeat.</summary>
    Started = 0,

    /// <summary>There is no such instance, or it takes no more runs; the run has not begun and will not.</summary>
    InstanceGone = 1,

    /// <summary>The instance has no free slot; the run has not begun.</summary>
    Busy = 2,
}

/// <summary>How an attempt ended.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.RunReport")]
public sealed record RunReport
{
    /// <summary>Run id of the order.</summary>
    [Id(0)] public required string RunId { get; init; }

    /// <summary>Task whose attempt it was, or null for a synchronous call.</summary>
    [Id(1)] public TaskKey? Task { get; init; }

    /// <summary>Attempt of the order.</summary>
    [Id(2)] public int Attempt { get; init; }

    /// <summary>Instance it ran on.</summary>
    [Id(3)] public required string InstanceId { get; init; }

    /// <summary>Node it ran on.</summary>
    [Id(4)] public required string Node { get; init; }

    /// <summary>Class of the end.</summary>
    [Id(5)] public required RunOutcome Outcome { get; init; }

    /// <summary>HTTP status of the function's answer, or 0.</summary>
    [Id(6)] public int StatusCode { get; init; }

    /// <summary>What went wrong, or empty.</summary>
    [Id(7)] public string Message { get; init; } = "";

    /// <summary>The function's answer: at most 1 MiB for a task, 32 MiB for a synchronous call.</summary>
    [Id(8)] public byte[] Response { get; init; } = [];

    /// <summary>True when the answer was longer than that.</summary>
    [Id(9)] public bool ResponseTruncated { get; init; }

    /// <summary>Content type of the answer, or empty.</summary>
    [Id(10)] public string ContentType { get; init; } = "";

    /// <summary>Run time by the relay's monotonic clock.</summary>
    [Id(11)] public TimeSpan Duration { get; init; }

    /// <summary>Last part of what the function printed during the run: at most 4 KiB.</summary>
    [Id(12)] public byte[] LogTail { get; init; } = [];

    /// <summary>Highest memory use seen, in MiB; 0 if unknown.</summary>
    [Id(13)] public int MaxMemoryMiB { get; init; }

    /// <summary>Headers of the answer to an <see cref="HttpCall"/>: at most 16 KiB together.</summary>
    [Id(20)] public IReadOnlyList<HttpField> Headers { get; init; } = [];

    /// <summary>Position in a streamed answer of the first byte of <see cref="Response"/>.</summary>
    [Id(21)] public long ResponseFrom { get; init; }
}

/// <summary>Part of a log.</summary>
/// <param name="Data">Bytes as printed.</param>
/// <param name="NextCursor">Cursor to go on with.</param>
/// <param name="DroppedBytes">Bytes between the cursor asked for and the first byte here that are no longer kept.</param>
/// <param name="Complete">True when the run has ended and nothing follows <paramref name="NextCursor"/>.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.LogChunk")]
public sealed record LogChunk(
    [property: Id(0)] byte[] Data,
    [property: Id(1)] long NextCursor,
    [property: Id(2)] long DroppedBytes,
    [property: Id(3)] bool Complete);
