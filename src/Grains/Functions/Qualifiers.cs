namespace GpuTasks.Functions;

/// <summary>What a qualifier stands for. Pure.</summary>
public static class Qualifiers
{
    /// <summary>The definition that a qualifier stands for, or null if there is none.</summary>
    /// <param name="state">The function's row.</param>
    /// <param name="qualifier"><c>LATEST</c>, a version or an alias.</param>
    /// <param name="call">Decides which version an alias with weights gives.</param>
    public static FunctionSnapshot? Resolve(FunctionState state, string qualifier, string call)
    {
        if (state.Function is not { } function || !function.TryResolve(qualifier, call, out var version))
        {
            return null;
        }

        return version is null ? function
            : state.Published.FirstOrDefault(published => published.VersionId == version) is { } found
                ? function with { Spec = found.Spec with { Tags = function.Spec.Tags }, SpecRevision = found.SpecRevision, ModifiedAt = found.PublishedAt, Version = version, ResolvedImage = found.ResolvedImage }
                : null;
    }
}
