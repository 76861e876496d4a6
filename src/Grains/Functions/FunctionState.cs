using GpuTasks.Store;

namespace GpuTasks.Functions;

/// <summary>Stored row of a function; JSON by property name, so a rename is a migration.</summary>
public sealed record FunctionState : IIndexed
{
    /// <summary>The function, or null if there is none.</summary>
    public FunctionSnapshot? Function { get; init; }

    /// <inheritdoc />
    public IndexColumns? Index => Function is null ? null : new IndexColumns { Account = Function.Account, Function = Function.Spec.Name };
}
