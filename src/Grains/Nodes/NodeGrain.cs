using GpuTasks.Tasks;
using Orleans.Concurrency;

namespace GpuTasks.Nodes;

/// <summary>
/// The node agent's address in the cluster. It holds no state and decides nothing: the agent serializes what must be
/// serialized, so calls may interleave here, and one slow container never delays another's orders.
/// </summary>
/// <param name="agent">The agent in this process.</param>
[GrainType("node")]
[PinnedToNode, Reentrant]
public sealed class NodeGrain(INodeAgent agent) : Grain, INodeGrain
{
    /// <inheritdoc />
    public Task<LaunchOutcome> Launch(LaunchOrder order, CancellationToken cancellationToken = default) =>
        agent.LaunchAsync(order, cancellationToken);

    /// <inheritdoc />
    public Task StopInstance(string instanceId, bool force, CancellationToken cancellationToken = default) =>
        agent.StopInstanceAsync(instanceId, force, cancellationToken);

    /// <inheritdoc />
    public Task<StartRunOutcome> StartRun(RunOrder order, CancellationToken cancellationToken = default) =>
        agent.StartRunAsync(order, cancellationToken);

    /// <inheritdoc />
    public Task<bool> CancelRun(string instanceId, string runId, CancellationToken cancellationToken = default) =>
        agent.CancelRunAsync(instanceId, runId, cancellationToken);

    /// <inheritdoc />
    public Task<RunReport?> AwaitRun(string runId, TimeSpan wait, CancellationToken cancellationToken = default) =>
        agent.AwaitRunAsync(runId, wait, cancellationToken);

    /// <inheritdoc />
    public Task<AnswerPart> ReadAnswer(string instanceId, string runId, long from, TimeSpan wait, CancellationToken cancellationToken = default) =>
        agent.ReadAnswerAsync(instanceId, runId, from, wait, cancellationToken);

    /// <inheritdoc />
    public Task<BodyReceipt> SendBody(string instanceId, string runId, BodyPart part, TimeSpan wait, CancellationToken cancellationToken = default) =>
        agent.SendBodyAsync(instanceId, runId, part, wait, cancellationToken);

    /// <inheritdoc />
    public Task<LogChunk?> ReadLog(TaskKey task, int attempt, long cursor, int limit, CancellationToken cancellationToken = default) =>
        agent.ReadLogAsync(task, attempt, cursor, limit, cancellationToken);
}
