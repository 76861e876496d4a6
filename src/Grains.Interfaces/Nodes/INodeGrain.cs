using GpuTasks.Tasks;
using Orleans.Concurrency;

namespace GpuTasks.Nodes;

/// <summary>
/// One GPU host: its containers and cards. Key: node name; always on the silo of that name. Calls to a node whose
/// silo is missing throw <see cref="NodeUnavailableException"/> after about half a second.
/// </summary>
[Alias("GpuTasks.INodeGrain")]
public interface INodeGrain : IGrainWithStringKey
{
    /// <summary>Starts an instance; answers at once, how it goes is told by instance reports.</summary>
    [Alias("Launch")]
    Task<LaunchOutcome> Launch(LaunchOrder order, CancellationToken cancellationToken = default);

    /// <summary>Stops an instance, also one that was never launched: then its lease is released. Idempotent.</summary>
    /// <param name="instanceId">Instance.</param>
    /// <param name="force">False lets runs end first; true ends them.</param>
    /// <param name="cancellationToken">Guards the wait.</param>
    [Alias("StopInstance")]
    Task StopInstance(string instanceId, bool force, CancellationToken cancellationToken = default);

    /// <summary>Hands a run to an instance, durably before it answers.</summary>
    [Alias("StartRun")]
    Task<StartRunOutcome> StartRun(RunOrder order, CancellationToken cancellationToken = default);

    /// <summary>Ends a run: asks the function to end, then kills it. Its end is reported as that of any run. Idempotent.</summary>
    /// <returns>False if the node has no such run and never will: it has ended and was acknowledged, or never began.</returns>
    [Alias("CancelRun")]
    Task<bool> CancelRun(string instanceId, string runId, CancellationToken cancellationToken = default);

    /// <summary>Waits for the end of a synchronous call's run; the answer is forgotten one minute after it was first given.</summary>
    /// <param name="runId">Run.</param>
    /// <param name="wait">At most 10 s; ask again for longer.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>The end, or null if it has not come yet.</returns>
    [Alias("AwaitRun"), AlwaysInterleave]
    Task<RunReport?> AwaitRun(string runId, TimeSpan wait, CancellationToken cancellationToken = default);

    /// <summary>Reads the answer of a run that streams, while it is made and at its end. Who reads from a position will not ask for what is before it.</summary>
    /// <param name="instanceId">Instance.</param>
    /// <param name="runId">Run.</param>
    /// <param name="from">Position in the answer's body; -1 until the answer has begun.</param>
    /// <param name="wait">At most 10 s; ask again for longer.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    [Alias("ReadAnswer"), AlwaysInterleave]
    Task<AnswerPart> ReadAnswer(string instanceId, string runId, long from, TimeSpan wait, CancellationToken cancellationToken = default);

    /// <summary>Sends a part of a body that follows its order. May be repeated; not all of it need be taken.</summary>
    /// <param name="instanceId">Instance.</param>
    /// <param name="runId">Run.</param>
    /// <param name="part">The part.</param>
    /// <param name="wait">Longest wait for room: at most 10 s; ask again for longer.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    [Alias("SendBody"), AlwaysInterleave]
    Task<BodyReceipt> SendBody(string instanceId, string runId, BodyPart part, TimeSpan wait, CancellationToken cancellationToken = default);

    /// <summary>Reads what an attempt printed, while it runs and after its container is gone.</summary>
    /// <param name="task">Task.</param>
    /// <param name="attempt">Attempt, counted from 1.</param>
    /// <param name="cursor">Byte offset in the attempt's log; 0 for the start.</param>
    /// <param name="limit">1 to 1,048,576 bytes.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>The part, or null if nothing is known of this attempt here.</returns>
    [Alias("ReadLog"), AlwaysInterleave]
    Task<LogChunk?> ReadLog(TaskKey task, int attempt, long cursor, int limit, CancellationToken cancellationToken = default);
}
