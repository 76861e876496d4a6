using GpuTasks.Store;

namespace GpuTasks.Functions;

/// <summary>Stored row of a function; JSON by property name, so a rename is a migration.</summary>
public sealed record FunctionState : IIndexed
{
    /// <summary>The function, or null if there is none.</summary>
    public FunctionSnapshot? Function { get; init; }

    /// <summary>Definitions of the published versions, oldest first; their other facts are in <see cref="FunctionSnapshot.Versions"/>.</summary>
    public IReadOnlyList<PublishedDefinition> Published { get; init; } = [];

    /// <summary>Number of the version published last; numbers are never used again.</summary>
    public int LastVersion { get; init; }

    /// <inheritdoc />
    public IndexColumns? Index => Function is null ? null : new IndexColumns { Account = Function.Account, Function = Function.Spec.Name };
}

/// <summary>A published definition. It never changes.</summary>
/// <param name="VersionId">Version.</param>
/// <param name="Spec">Definition.</param>
/// <param name="SpecRevision">Revision that the definition had when it was published.</param>
/// <param name="PublishedAt">When.</param>
public sealed record PublishedDefinition(string VersionId, FunctionSpec Spec, int SpecRevision, DateTimeOffset PublishedAt)
{
    /// <summary>As <see cref="FunctionSnapshot.ResolvedImage"/>.</summary>
    public string? ResolvedImage { get; init; }
}
