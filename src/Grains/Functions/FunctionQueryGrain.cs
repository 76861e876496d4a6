using GpuTasks.Store;
using Orleans.Concurrency;

namespace GpuTasks.Functions;

/// <summary>Lists functions from the index; holds nothing, so any silo may answer and calls may interleave.</summary>
[GrainType("function-query")]
[StatelessWorker, Reentrant]
public sealed class FunctionQueryGrain(IFunctionIndex index) : Grain, IFunctionQueryGrain
{
    /// <inheritdoc />
    public async Task<FunctionPage> List(string prefix, string? after, int limit, CancellationToken cancellationToken = default)
    {
        // One more than asked for tells whether another page follows.
        var rows = await index.ListAsync(this.GetPrimaryKeyString(), prefix, after, limit + 1, cancellationToken);
        var functions = rows.Take(limit).Select(row => row.Function!).ToArray();
        return new FunctionPage(functions, rows.Count > limit ? functions[^1].Spec.Name : null);
    }
}
