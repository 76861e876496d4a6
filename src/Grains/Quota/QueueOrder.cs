using GpuTasks.Quota.Placement;

namespace GpuTasks.Quota;

/// <summary>What one function waits for.</summary>
/// <param name="stated">As it stated it last.</param>
/// <param name="shape">What each instance needs, as placement reads it.</param>
/// <param name="statedAt">When it stated it.</param>
/// <param name="since">Since when it waits.</param>
internal sealed class Demand(CapacityDemand stated, Shape shape, DateTimeOffset statedAt, DateTimeOffset since)
{
    public CapacityDemand Stated { get; } = stated;

    public Shape Shape { get; } = shape;

    public DateTimeOffset StatedAt { get; } = statedAt;

    public DateTimeOffset Since { get; } = since;

    /// <summary>Instances still to grant.</summary>
    public int More { get; set; }
}

/// <summary>Who is next.</summary>
internal static class QueueOrder
{
    /// <summary>First come, first served; ties by name, so that a replay decides alike.</summary>
    public static IReadOnlyList<Demand> Sort(IEnumerable<Demand> demands) => [.. demands
        .OrderBy(d => d.Since)
        .ThenBy(d => d.Stated.Account, StringComparer.Ordinal)
        .ThenBy(d => d.Stated.Function, StringComparer.Ordinal)];
}
