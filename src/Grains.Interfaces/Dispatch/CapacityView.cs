namespace GpuTasks.Dispatch;

/// <summary>How far a function's instances are from what is to be there.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.CapacityView")]
public sealed record CapacityView
{
    /// <summary>Instances that the provision config asks for now.</summary>
    [Id(0)] public int ProvisionTarget { get; init; }

    /// <summary>Instances that the scaling config asks for now.</summary>
    [Id(1)] public int ScalingTarget { get; init; }

    /// <summary>Instances of the present definition that take runs.</summary>
    [Id(2)] public int Ready { get; init; }

    /// <summary>Why there are fewer than asked for, or empty.</summary>
    [Id(3)] public string Error { get; init; } = "";
}
