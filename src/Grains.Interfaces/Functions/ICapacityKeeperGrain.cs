namespace GpuTasks.Functions;

/// <summary>
/// Sees to it that the queue of a function with provisioned instances lives although nothing waits, also after the whole
/// cluster was down. Key: <c>{account}/{function}</c>.
/// </summary>
[Alias("GpuTasks.ICapacityKeeperGrain")]
public interface ICapacityKeeperGrain : IGrainWithStringKey
{
    /// <summary>Begins to look after the function, until it has nothing set any more. Idempotent.</summary>
    [Alias("Watch")]
    Task Watch(CancellationToken cancellationToken = default);
}
