using GpuTasks.Tasks;

namespace GpuTasks.Nodes;

/// <summary>
/// The part of a GPU silo that owns containers and cards. It lives outside Orleans' scheduler, reports by itself to
/// dispatchers, tasks and the region, and is reached by others through <see cref="INodeGrain"/>, whose methods it answers.
/// </summary>
public interface INodeAgent
{
    /// <inheritdoc cref="INodeGrain.Launch" />
    Task<LaunchOutcome> LaunchAsync(LaunchOrder order, CancellationToken cancellationToken);

    /// <inheritdoc cref="INodeGrain.StopInstance" />
    Task StopInstanceAsync(string instanceId, bool force, CancellationToken cancellationToken);

    /// <inheritdoc cref="INodeGrain.StartRun" />
    Task<StartRunOutcome> StartRunAsync(RunOrder order, CancellationToken cancellationToken);

    /// <inheritdoc cref="INodeGrain.CancelRun" />
    Task<bool> CancelRunAsync(string instanceId, string runId, CancellationToken cancellationToken);

    /// <inheritdoc cref="INodeGrain.AwaitRun" />
    Task<RunReport?> AwaitRunAsync(string runId, TimeSpan wait, CancellationToken cancellationToken);

    /// <inheritdoc cref="INodeGrain.ReadAnswer" />
    Task<AnswerPart> ReadAnswerAsync(string instanceId, string runId, long from, TimeSpan wait, CancellationToken cancellationToken);

    /// <inheritdoc cref="INodeGrain.SendBody" />
    Task<BodyReceipt> SendBodyAsync(string instanceId, string runId, BodyPart part, TimeSpan wait, CancellationToken cancellationToken);

    /// <inheritdoc cref="INodeGrain.ReadLog" />
    Task<LogChunk?> ReadLogAsync(TaskKey task, int attempt, long cursor, int limit, CancellationToken cancellationToken);
}
