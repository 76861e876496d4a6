namespace GpuTasks.Tasks;

/// <summary>Deletes ended tasks once they are no longer kept. One per cluster, key <c>purger</c>.</summary>
[Alias("GpuTasks.IPurgerGrain")]
public interface IPurgerGrain : IGrainWithStringKey
{
    /// <summary>Makes sure that it runs; harmless to repeat. Called by every silo at its start and now and then.</summary>
    [Alias("EnsureRunning")]
    Task EnsureRunning(CancellationToken cancellationToken = default);
}
