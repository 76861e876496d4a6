using Orleans.Concurrency;

namespace GpuTasks.Functions;

/// <summary>One page of an account's functions.</summary>
/// <param name="Functions">By name, ascending.</param>
/// <param name="NextToken">Name to go on after; null on the last page.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.FunctionPage")]
public sealed record FunctionPage(
    [property: Id(0)] IReadOnlyList<FunctionSnapshot> Functions,
    [property: Id(1)] string? NextToken);

/// <summary>Lists over the function index. Stateless; key: account id, which is all it can see.</summary>
[Alias("GpuTasks.IFunctionQueryGrain")]
public interface IFunctionQueryGrain : IGrainWithStringKey
{
    /// <summary>Functions whose name starts with <paramref name="prefix"/>, after <paramref name="after"/>.</summary>
    /// <param name="prefix">Start of the name; empty for all.</param>
    /// <param name="after">Name where the last page ended, or null.</param>
    /// <param name="limit">1 to 100.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    [Alias("List"), ReadOnly]
    Task<FunctionPage> List(string prefix, string? after, int limit, CancellationToken cancellationToken = default);
}
