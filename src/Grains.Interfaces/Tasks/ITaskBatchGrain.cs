namespace GpuTasks.Tasks;

/// <summary>Answer to one task of a batch.</summary>
public enum BatchOutcome
{
    /// <summary>Stored durably; it will run. Also the answer to a repeat with the same request id.</summary>
    Accepted = 0,

    /// <summary>The id is taken; nothing was changed.</summary>
    AlreadyExists = 1,

    /// <summary>The store did not answer in time or could not take it; repeat it with the same id.</summary>
    Unavailable = 2,
}

/// <summary>One task of a batch.</summary>
/// <param name="TaskId">Its id.</param>
/// <param name="Submission">What is submitted; its request id is its own, not the batch's.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.NewTask")]
public sealed record NewTask([property: Id(0)] string TaskId, [property: Id(1)] TaskSubmission Submission);

/// <summary>Tasks of one function that are accepted in one call.</summary>
/// <param name="Tasks">At most a few hundred, so that the message stays small.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.TaskBatch")]
public sealed record TaskBatch([property: Id(0)] IReadOnlyList<NewTask> Tasks);

/// <summary>
/// Accepts many tasks without an activation for each. Stateless; key: <c>{account}/{function}</c>. It makes new rows and
/// never changes one, so that a task that exists has its grain as its only owner.
/// </summary>
[Alias("GpuTasks.ITaskBatchGrain")]
public interface ITaskBatchGrain : IGrainWithStringKey
{
    /// <summary>Stores each task on its own, durably before answering, then offers the accepted ones to their dispatcher.</summary>
    /// <returns>One answer for each task, in their order.</returns>
    [Alias("Submit")]
    Task<IReadOnlyList<BatchOutcome>> Submit(TaskBatch batch, CancellationToken cancellationToken = default);
}
