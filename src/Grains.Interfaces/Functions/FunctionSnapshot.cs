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
}
