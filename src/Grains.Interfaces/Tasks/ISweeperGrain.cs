namespace GpuTasks.Tasks;

/// <summary>Wakes tasks whose stored time has come and that have no activation. One per cluster, key <c>sweeper</c>.</summary>
[Alias("GpuTasks.ISweeperGrain")]
public interface ISweeperGrain : IGrainWithStringKey
{
    /// <summary>Makes sure that it runs; harmless to repeat. Called by every silo at its start.</summary>
    [Alias("EnsureRunning")]
    Task EnsureRunning(CancellationToken cancellationToken = default);
}
