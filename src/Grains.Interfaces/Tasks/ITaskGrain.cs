using GpuTasks.Destinations;
using GpuTasks.Dispatch;
using GpuTasks.Nodes;
using Orleans.Concurrency;

namespace GpuTasks.Tasks;

/// <summary>Answer to a submit.</summary>
public enum SubmitOutcome
{
    /// <summary>Stored durably; it will run.</summary>
    Accepted = 0,

    /// <summary>The id is taken (contract: 409); nothing was changed.</summary>
    AlreadyExists = 1,
}

/// <summary>Answer to a stop.</summary>
public enum StopOutcome
{
    /// <summary>The task is stopped or on its way there; also the answer to a repeat.</summary>
    Accepted = 0,

    /// <summary>It had ended before; nothing was changed.</summary>
    AlreadyFinal = 1,

    /// <summary>No such task.</summary>
    NotFound = 2,
}

/// <summary>Answer to an offered slot.</summary>
public enum StartOutcome
{
    /// <summary>The task took the slot; also the answer to a repeat of the same slot.</summary>
    Started = 0,

    /// <summary>The task does not want it: ended, stopped, or already elsewhere. The slot is free.</summary>
    NotWanted = 1,

    /// <summary>The task could not be written; ask again with the same slot.</summary>
    TryAgain = 2,
}

/// <summary>One task's truth, durable and timed. Key: <see cref="TaskKey"/> as text.</summary>
[Alias("GpuTasks.ITaskGrain")]
public interface ITaskGrain : IGrainWithStringKey
{
    /// <summary>Accepts the task durably before answering, then offers it to its dispatcher.</summary>
    [Alias("Submit")]
    Task<SubmitOutcome> Submit(TaskSubmission submission, CancellationToken cancellationToken = default);

    /// <summary>The task as it is, or null if there is none.</summary>
    /// <param name="includeData">Whether payload and result come along.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    [Alias("Get"), ReadOnly]
    Task<TaskSnapshot?> Get(bool includeData, CancellationToken cancellationToken = default);

    /// <summary>The whole answer of the latest attempt that gave one, or null if there is none, or no task.</summary>
    [Alias("GetResult"), ReadOnly]
    Task<TaskResult?> GetResult(CancellationToken cancellationToken = default);

    /// <summary>Ends the task: at once while it waits, by cancelling its run while it runs.</summary>
    [Alias("Stop")]
    Task<StopOutcome> Stop(string reason, CancellationToken cancellationToken = default);

    /// <summary>The dispatcher offers a slot. Idempotent by <see cref="SlotAssignment.SlotId"/>.</summary>
    [Alias("Start")]
    Task<StartOutcome> Start(SlotAssignment slot, CancellationToken cancellationToken = default);

    /// <summary>A node reports the end of an attempt. Returns once it is durable; the node may then forget the run.</summary>
    /// <exception cref="UnknownTaskException">There is no such task: the node keeps the end.</exception>
    [Alias("Report")]
    Task Report(RunReport report, CancellationToken cancellationToken = default);

    /// <summary>
    /// A node that was given a higher number than the store knows says which attempt it runs: the task, set back with the
    /// store, takes it up instead of beginning it again.
    /// </summary>
    /// <param name="attempt">The attempt.</param>
    /// <param name="slot">Where it runs.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>True if that is the task's attempt now.</returns>
    /// <exception cref="UnknownTaskException">There is no such task.</exception>
    [Alias("TakeUp")]
    Task<bool> TakeUp(int attempt, SlotAssignment slot, CancellationToken cancellationToken = default);

    /// <summary>An instance that would have served this waiting task could not start. Idempotent by <paramref name="instanceId"/>.</summary>
    [Alias("LaunchFailed")]
    Task LaunchFailed(string instanceId, LaunchFailure failure, CancellationToken cancellationToken = default);

    /// <summary>The function is gone: a waiting task becomes Invalid, a running one is stopped.</summary>
    [Alias("FunctionDeleted")]
    Task FunctionDeleted(CancellationToken cancellationToken = default);

    /// <summary>Its message that could not be delivered, whole, or null if there is none.</summary>
    [Alias("GetDeadLetter"), ReadOnly]
    Task<DeadLetterView?> GetDeadLetter(CancellationToken cancellationToken = default);

    /// <summary>Has that message delivered after all, under the same id, for another 24 h.</summary>
    /// <returns>True if it is on its way, also to a repeat; false if there is none.</returns>
    [Alias("Redeliver")]
    Task<bool> Redeliver(CancellationToken cancellationToken = default);

    /// <summary>Forgets that message.</summary>
    /// <returns>False if there was none.</returns>
    [Alias("DeleteDeadLetter")]
    Task<bool> DeleteDeadLetter(CancellationToken cancellationToken = default);

    /// <summary>Something that was due by the task's own stored times is due now.</summary>
    [Alias("Wake")]
    Task Wake(CancellationToken cancellationToken = default);
}
