namespace GpuTasks.Tasks;

/// <summary>One line of a task's history (contract 2.3).</summary>
/// <param name="EventId">Counts from 1.</param>
/// <param name="Status">Status that was reached.</param>
/// <param name="At">When.</param>
/// <param name="Detail">Text; JSON text such as <c>{"Error":"FunctionError"}</c> for failures; empty if there is nothing to say.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.TaskEventRecord")]
public sealed record TaskEventRecord(
    [property: Id(0)] int EventId,
    [property: Id(1)] GpuTaskStatus Status,
    [property: Id(2)] DateTimeOffset At,
    [property: Id(3)] string Detail);

/// <summary>A task as others may see it.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.TaskSnapshot")]
public sealed record TaskSnapshot
{
    /// <summary>Identity.</summary>
    [Id(0)] public required TaskKey Key { get; init; }

    /// <summary>Where it stands.</summary>
    [Id(1)] public required GpuTaskStatus Status { get; init; }

    /// <summary>Id of the call that submitted it.</summary>
    [Id(2)] public required string RequestId { get; init; }

    /// <summary>Version or alias it was submitted to.</summary>
    [Id(3)] public required string Qualifier { get; init; }

    /// <summary>When it was accepted: the contract's <c>startedTime</c>, so that waiting tasks sort and filter too.</summary>
    [Id(4)] public DateTimeOffset EnqueuedAt { get; init; }

    /// <summary>Start of the latest attempt, or null before the first.</summary>
    [Id(5)] public DateTimeOffset? RunStartedAt { get; init; }

    /// <summary>When it became final, or null.</summary>
    [Id(6)] public DateTimeOffset? EndedAt { get; init; }

    /// <summary>Run time of the latest attempt.</summary>
    [Id(7)] public TimeSpan Duration { get; init; }

    /// <summary>Attempts begun so far; 0 before the first.</summary>
    [Id(8)] public int Attempt { get; init; }

    /// <summary>Counted retries so far, the contract's <c>alreadyRetriedTimes</c>.</summary>
    [Id(9)] public int Retries { get; init; }

    /// <summary>Faults of the platform that cost no attempt.</summary>
    [Id(10)] public int PlatformFaults { get; init; }

    /// <summary>Instance of the latest attempt, or empty.</summary>
    [Id(11)] public string InstanceId { get; init; } = "";

    /// <summary>Node of the latest attempt, or empty.</summary>
    [Id(12)] public string Node { get; init; } = "";

    /// <summary>What went wrong, or empty.</summary>
    [Id(13)] public string ErrorMessage { get; init; } = "";

    /// <summary>How the latest attempt ended, or null while none has.</summary>
    [Id(14)] public RunOutcome? Outcome { get; init; }

    /// <summary>The input; null where it was not asked for.</summary>
    [Id(15)] public byte[]? Payload { get; init; }

    /// <summary>The function's answer, at most its first 1 MiB; null where it was not asked for or there is none.</summary>
    [Id(16)] public byte[]? Result { get; init; }

    /// <summary>True when the function's answer was longer than <see cref="Result"/> can be, or than what is kept of it.</summary>
    [Id(17)] public bool ResultTruncated { get; init; }

    /// <summary>How its destination was told: empty before the first try, <c>Retrying</c> after a miss, then <c>Succeeded</c> or <c>Failed</c>.</summary>
    [Id(18)] public string DestinationStatus { get; init; } = "";

    /// <summary>History, oldest first; bounded, see <c>ARCHITECTURE.md</c>.</summary>
    [Id(19)] public IReadOnlyList<TaskEventRecord> Events { get; init; } = [];

    /// <summary>False for asynchronous calls without task mode.</summary>
    [Id(20)] public bool Recorded { get; init; } = true;

    /// <summary>Since when the node of a running task has been silent, or null.</summary>
    [Id(21)] public DateTimeOffset? ContactLostSince { get; init; }

    /// <summary>Bytes of the answer that are kept, however many of them are in <see cref="Result"/>.</summary>
    [Id(22)] public long ResultBytes { get; init; }

    /// <summary>Class 0 to 9.</summary>
    [Id(30)] public int Priority { get; init; }

    /// <summary>When the pause before the next attempt ends, or null if there is none.</summary>
    [Id(31)] public DateTimeOffset? RetryAt { get; init; }

    /// <summary>Version that runs it, or null for <c>LATEST</c>.</summary>
    [Id(40)] public string? Version { get; init; }

    /// <summary>Message to a destination that is not delivered, or null.</summary>
    [Id(41)] public DeliveryView? Delivery { get; init; }
}

/// <summary>A message to a destination that is not delivered yet, or was given up.</summary>
/// <param name="DeliveryId">The same for each try.</param>
/// <param name="Target">Destination as configured when the task was submitted.</param>
/// <param name="Attempts">Deliveries tried.</param>
/// <param name="Fault">Why it was missed last, or empty.</param>
/// <param name="NextAt">When it is tried next; null if it was given up.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.DeliveryView")]
public sealed record DeliveryView(
    [property: Id(0)] string DeliveryId,
    [property: Id(1)] string Target,
    [property: Id(2)] int Attempts,
    [property: Id(3)] string Fault,
    [property: Id(4)] DateTimeOffset? NextAt);

/// <summary>A function's answer.</summary>
/// <param name="Data">All that is kept of it.</param>
/// <param name="Truncated">True when it was longer.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.TaskResult")]
public sealed record TaskResult([property: Id(0)] byte[] Data, [property: Id(1)] bool Truncated);
