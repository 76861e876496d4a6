using GpuTasks.Dispatch;
using GpuTasks.Functions;
using GpuTasks.Store;

namespace GpuTasks.Tasks;

/// <summary>What must still be done for others after the last saved change. Run again on activation, so each is harmless to repeat.</summary>
[Flags]
public enum TaskEffects
{
    /// <summary>Nothing.</summary>
    None = 0,

    /// <summary>Offer the ticket to the dispatcher.</summary>
    JoinQueue = 1,

    /// <summary>Withdraw the ticket.</summary>
    LeaveQueue = 2,

    /// <summary>Hand the run to its node.</summary>
    StartRun = 4,

    /// <summary>Ask the node to end the run.</summary>
    CancelRun = 8,

    /// <summary>Give the slot back.</summary>
    FreeSlot = 16,

    /// <summary>Tell the destination.</summary>
    Notify = 32,
}

/// <summary>Stored row of a task; JSON by property name, so a rename is a migration.</summary>
public sealed record TaskState : IIndexed, IHasBlobs<TaskState>
{
    private const string PayloadPart = "payload";
    private const string ResultPart = "result";

    /// <summary>Identity; null while nothing was submitted.</summary>
    public TaskKey? Key { get; init; }

    /// <summary>What was submitted; null while nothing was.</summary>
    public TaskSubmission? Submission { get; init; }

    /// <summary>Where it stands.</summary>
    public GpuTaskStatus Status { get; init; }

    /// <summary>Effects of the last change that are not known to be done.</summary>
    public TaskEffects Pending { get; init; }

    /// <summary>When it was accepted.</summary>
    public DateTimeOffset EnqueuedAt { get; init; }

    /// <summary>When its wait in the queue becomes too long.</summary>
    public DateTimeOffset QueueDeadline { get; init; }

    /// <summary>When something is due that nobody else brings about: queue deadline, end of a pause, repeat of the run's order, run deadline.</summary>
    public DateTimeOffset? WakeAt { get; init; }

    /// <summary>Attempts begun; reports of others are ignored.</summary>
    public int Attempt { get; init; }

    /// <summary>Attempts whose failure counted.</summary>
    public int CountedFailures { get; init; }

    /// <summary>Counted failures before the latest attempt: the contract's <c>alreadyRetriedTimes</c>.</summary>
    public int Retries { get; init; }

    /// <summary>Attempts lost to faults of the platform.</summary>
    public int PlatformFaults { get; init; }

    /// <summary>Slot of the current attempt, or of the last one.</summary>
    public SlotAssignment? Slot { get; init; }

    /// <summary>True once the run's order was given again, so that the next wake time is the run's deadline.</summary>
    public bool OrderChecked { get; init; }

    /// <summary>True once the run passed its limit: a late success no longer counts.</summary>
    public bool Overdue { get; init; }

    /// <summary>Start of the latest attempt.</summary>
    public DateTimeOffset? RunStartedAt { get; init; }

    /// <summary>When it became final.</summary>
    public DateTimeOffset? EndedAt { get; init; }

    /// <summary>Run time of the latest attempt that ended.</summary>
    public TimeSpan Duration { get; init; }

    /// <summary>How the latest attempt ended.</summary>
    public RunOutcome? Outcome { get; init; }

    /// <summary>What went wrong, or empty.</summary>
    public string ErrorMessage { get; init; } = "";

    /// <summary>The function's answer.</summary>
    public byte[]? Result { get; init; }

    /// <summary>True when the answer was longer than what is kept.</summary>
    public bool ResultTruncated { get; init; }

    /// <summary>Instance whose failed launch was counted last, so that a repeat is recognised.</summary>
    public string LastFailedLaunch { get; init; } = "";

    /// <summary>How its destination was told: empty before the first try, <c>Retrying</c> after a miss, then <c>Succeeded</c> or <c>Failed</c>.</summary>
    public string DestinationStatus { get; init; } = "";

    /// <summary>Message still to be delivered to a destination, or null.</summary>
    public OutboxEntry? Outbox { get; init; }

    /// <summary>Message that could not be delivered, while it is kept; its time ends at <see cref="WakeAt"/>.</summary>
    public DeadLetter? DeadLetter { get; init; }

    /// <summary>History, oldest first.</summary>
    public IReadOnlyList<TaskEventRecord> Events { get; init; } = [];

    /// <inheritdoc />
    public IReadOnlyDictionary<string, string>? Blobs { get; init; }

    /// <inheritdoc />
    IEnumerable<KeyValuePair<string, byte[]>> IHasBlobs<TaskState>.Parts
    {
        get
        {
            if (Submission is not null)
            {
                yield return KeyValuePair.Create(PayloadPart, Submission.Payload);
            }

            if (Result is not null)
            {
                yield return KeyValuePair.Create(ResultPart, Result);
            }
        }
    }

    /// <inheritdoc />
    TaskState IHasBlobs<TaskState>.WithoutParts(IReadOnlyDictionary<string, string> blobs) => this with
    {
        Blobs = blobs,
        Submission = blobs.ContainsKey(PayloadPart) ? Submission! with { Payload = [] } : Submission,
        Result = blobs.ContainsKey(ResultPart) ? null : Result,
    };

    /// <inheritdoc />
    TaskState IHasBlobs<TaskState>.WithParts(IReadOnlyDictionary<string, byte[]> parts) => this with
    {
        Blobs = null,
        Submission = parts.TryGetValue(PayloadPart, out var payload) ? Submission! with { Payload = payload } : Submission,
        Result = parts.GetValueOrDefault(ResultPart) ?? Result,
    };

    /// <inheritdoc />
    public IndexColumns? Index => Key is not { } key || Submission is null ? null : new IndexColumns
    {
        Account = key.Account,
        Function = key.Function,
        TaskId = key.TaskId,
        Qualifier = Submission.Qualifier,
        Line = Submission.Version is { } version ? DefinitionKey.LineOf(key.Function, version) : null,
        Status = Status.ToString(),
        Listed = Submission.Recorded,
        Priority = Submission.Priority,
        EnqueuedAt = EnqueuedAt.ToUnixTimeMilliseconds(),
        StartedAt = RunStartedAt?.ToUnixTimeMilliseconds(),
        EndedAt = EndedAt?.ToUnixTimeMilliseconds(),
        WakeAt = WakeAt?.ToUnixTimeMilliseconds(),
        DeadAt = DeadLetter?.At.ToUnixTimeMilliseconds(),
    };
}

/// <summary>One message to a destination, delivered at least once under the same id.</summary>
/// <param name="DeliveryId">Stable over retries and replays.</param>
/// <param name="Target">Destination as configured.</param>
/// <param name="Attempts">Deliveries tried.</param>
public sealed record OutboxEntry(string DeliveryId, string Target, int Attempts)
{
    /// <summary>Pauses so far: one for each miss, and for each time that there was no place to try.</summary>
    public int Pauses { get; init; }

    /// <summary>Why it was missed last, or empty.</summary>
    public string Fault { get; init; } = "";

    /// <summary>When it was put out once more; null for the first time, which began with the task's end.</summary>
    public DateTimeOffset? ReplayedAt { get; init; }
}

/// <summary>A message that was given up.</summary>
/// <param name="DeliveryId">Id of the delivery.</param>
/// <param name="Target">Destination as configured.</param>
/// <param name="Attempts">Deliveries tried.</param>
/// <param name="Fault">Why the last of them was missed.</param>
/// <param name="At">When it was given up.</param>
public sealed record DeadLetter(string DeliveryId, string Target, int Attempts, string Fault, DateTimeOffset At);
