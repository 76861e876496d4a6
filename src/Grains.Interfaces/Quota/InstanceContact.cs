namespace GpuTasks.Quota;

/// <summary>What the region knows of an instance whose node does not answer.</summary>
/// <param name="Leased">False proves that nothing of it runs: its node gave the lease back, was started anew, or was declared lost.</param>
/// <param name="Silence">For how long the node has at least not been heard of, by a clock that nobody can set.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.InstanceContact")]
public sealed record InstanceContact([property: Id(0)] bool Leased, [property: Id(1)] TimeSpan Silence);

/// <summary>Answer to <see cref="IRegionQuotaGrain.DeclareLost"/>. Numbers never change.</summary>
public enum DeclareLostOutcome
{
    /// <summary>Its leases have ended.</summary>
    Done = 0,

    /// <summary>The region has no such node.</summary>
    Unknown = 1,

    /// <summary>It reports, so it is not lost.</summary>
    Reachable = 2,
}
