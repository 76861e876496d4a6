namespace GpuTasks.Containers;

internal sealed partial class NodeAgent
{
    [LoggerMessage(101, LogLevel.Information, "Engine at {Endpoint}: version {Version}, API {ApiVersion}, {Processors} processors.")]
    private static partial void LogEngine(ILogger logger, string endpoint, string version, Version apiVersion, int processors);

    [LoggerMessage(102, LogLevel.Warning, "Engine at {Endpoint} has live-restore off: its restart would end every run on this node.")]
    private static partial void LogNoLiveRestore(ILogger logger, string endpoint);

    [LoggerMessage(103, LogLevel.Warning, "Engine at {Endpoint} is away and is tried again: {Message}")]
    private static partial void LogEngineAway(ILogger logger, string endpoint, string message);

    [LoggerMessage(104, LogLevel.Information, "Node {Node} takes launches; it goes on with {Count} instances of before.")]
    private static partial void LogAdopted(ILogger logger, string node, int count);

    [LoggerMessage(105, LogLevel.Information, "Instance {Instance} of {Account}/{Function} was left by an earlier agent; it goes on.")]
    private static partial void LogAdopting(ILogger logger, string instance, string account, string function);

    [LoggerMessage(106, LogLevel.Warning, "Launch of {Instance} refused: its lease is of epoch {LeaseEpoch}, the node knows {NodeEpoch} and not this lease.")]
    private static partial void LogStale(ILogger logger, string instance, long leaseEpoch, long nodeEpoch);

    [LoggerMessage(107, LogLevel.Warning, "Launch of {Instance} put off: {Reason}")]
    private static partial void LogNoRoom(ILogger logger, string instance, string reason);

    [LoggerMessage(108, LogLevel.Warning, "A directive of epoch {Epoch} is older than the last one, {NodeEpoch}, and is ignored.")]
    private static partial void LogOldDirective(ILogger logger, long epoch, long nodeEpoch);

    [LoggerMessage(109, LogLevel.Warning, "Lease {Instance} has waited for its launch too long and is given back.")]
    private static partial void LogUnused(ILogger logger, string instance);

    [LoggerMessage(110, LogLevel.Warning, "Container {Container} belongs to no instance of this node and is removed.")]
    private static partial void LogOrphan(ILogger logger, string container);

    [LoggerMessage(111, LogLevel.Information, "Lease {Instance} is given back.")]
    private static partial void LogReleased(ILogger logger, string instance);

    [LoggerMessage(112, LogLevel.Warning, "Lease {Instance} could not be given back yet; it is tried again.")]
    private static partial void LogReleaseFailed(ILogger logger, Exception e, string instance);

    [LoggerMessage(113, LogLevel.Debug, "A message that may be lost was lost.")]
    private static partial void LogTellFailed(ILogger logger, Exception e);

    [LoggerMessage(114, LogLevel.Warning, "The node's {Loop} failed and is tried again.")]
    private static partial void LogLoopFailed(ILogger logger, Exception e, string loop);

    [LoggerMessage(115, LogLevel.Warning, "The node promises {Cpus} processors and {MemoryMiB} MiB, but the machine has {RealCpus} and {RealMemoryMiB}: instances share what there is.")]
    private static partial void LogClaims(ILogger logger, double cpus, int memoryMiB, int realCpus, int realMemoryMiB);

    [LoggerMessage(116, LogLevel.Warning, "{What}")]
    private static partial void LogSetBack(ILogger logger, string what);
}
