namespace GpuTasks.Functions;

/// <summary>A function as it stands.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.FunctionSnapshot")]
public sealed record FunctionSnapshot
{
    /// <summary>Owner.</summary>
    [Id(0)] public required string Account { get; init; }

    /// <summary>Definition.</summary>
    [Id(1)] public required FunctionSpec Spec { get; init; }

    /// <summary>Made at creation; differs when a name is used again.</summary>
    [Id(2)] public required string FunctionId { get; init; }

    /// <summary>Counts from 1; each change of the definition or of an async config adds 1.</summary>
    [Id(3)] public required int Revision { get; init; }

    /// <summary>Revision at which the definition itself last changed; instances of an older one are replaced.</summary>
    [Id(4)] public required int SpecRevision { get; init; }

    /// <summary>When it was created.</summary>
    [Id(5)] public DateTimeOffset CreatedAt { get; init; }

    /// <summary>When the definition last changed.</summary>
    [Id(6)] public DateTimeOffset ModifiedAt { get; init; }

    /// <summary>Async configs by qualifier.</summary>
    [Id(7)] public IReadOnlyDictionary<string, AsyncInvokeConfig> AsyncConfigs { get; init; } = new Dictionary<string, AsyncInvokeConfig>();

    /// <summary>How much of it runs at most and at least.</summary>
    [Id(20)] public FunctionCapacity Capacity { get; init; } = FunctionCapacity.None;

    /// <summary>Published versions, oldest first.</summary>
    [Id(8)] public IReadOnlyList<FunctionVersion> Versions { get; init; } = [];

    /// <summary>Aliases by name.</summary>
    [Id(9)] public IReadOnlyDictionary<string, FunctionAlias> Aliases { get; init; } = new Dictionary<string, FunctionAlias>();

    /// <summary>Whether it takes calls, or null if that was never restricted.</summary>
    [Id(10)] public InvocationRestriction? Restriction { get; init; }

    /// <summary>Version whose definition this is, or null for <c>LATEST</c>.</summary>
    [Id(11)] public string? Version { get; init; }

    /// <summary>The image by digest, once an instance of this definition has started from it: all later ones start from the same.</summary>
    [Id(12)] public string? ResolvedImage { get; init; }

    /// <summary>Key of the definition's dispatcher.</summary>
    public DefinitionKey Definition => new(Account, Spec.Name, Version);

    /// <summary>
    /// Whether a config of a qualifier is this definition's: its own, or that of an alias which names it first. What else an
    /// alias gives calls to by weight keeps no instances for it.
    /// </summary>
    public bool IsKeptBy(string qualifier) =>
        qualifier == (Version ?? "LATEST") || (Version is not null && Aliases.TryGetValue(qualifier, out var alias) && alias.VersionId == Version);

    /// <summary>Versions that provision and scaling configs keep instances of, each once; null stands for <c>LATEST</c>.</summary>
    public IEnumerable<string?> VersionsKept => Capacity.Provision.Keys.Concat(Capacity.Scaling.Keys)
        .Select(qualifier => qualifier == "LATEST" ? null : Aliases.TryGetValue(qualifier, out var alias) ? alias.VersionId : qualifier)
        .Distinct();

    /// <summary>Finds the version that a qualifier stands for.</summary>
    /// <param name="qualifier"><c>LATEST</c>, a version or an alias.</param>
    /// <param name="call">Id of the call, for aliases with weights.</param>
    /// <param name="version">The version, or null for <c>LATEST</c>.</param>
    /// <returns>False if there is no such version or alias.</returns>
    public bool TryResolve(string qualifier, string call, out string? version)
    {
        version = qualifier == "LATEST" ? null : Aliases.TryGetValue(qualifier, out var alias) ? alias.Pick(call) : qualifier;
        var wanted = version;
        return wanted is null || Versions.Any(published => published.VersionId == wanted);
    }
}
