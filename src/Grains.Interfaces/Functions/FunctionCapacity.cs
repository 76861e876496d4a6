namespace GpuTasks.Functions;

/// <summary>When a schedule or policy counts.</summary>
/// <param name="From">Not before this moment; null for always.</param>
/// <param name="Until">Not after this moment; null for ever.</param>
/// <param name="FromText">Start as the caller wrote it, or null.</param>
/// <param name="UntilText">End as the caller wrote it, or null.</param>
/// <param name="TimeZone">IANA name such as <c>Asia/Shanghai</c>; null for UTC.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.PlanPeriod")]
public sealed record PlanPeriod(
    [property: Id(0)] DateTimeOffset? From,
    [property: Id(1)] DateTimeOffset? Until,
    [property: Id(2)] string? FromText,
    [property: Id(3)] string? UntilText,
    [property: Id(4)] string? TimeZone)
{
    /// <summary>Whether it counts at a moment.</summary>
    public bool Contains(DateTimeOffset now) => !(now < From) && !(now > Until);
}

/// <summary>A number of instances from a moment on: that of its latest firing within its period.</summary>
/// <param name="Name">Name.</param>
/// <param name="Expression">As the caller wrote it: <c>cron(...)</c> or <c>at(...)</c>.</param>
/// <param name="Cron">Six fields, seconds first; null for a single moment.</param>
/// <param name="At">The single moment, or null.</param>
/// <param name="Target">Instances: 0 to 10,000.</param>
/// <param name="Period">When it counts.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.ScheduledTarget")]
public sealed record ScheduledTarget(
    [property: Id(0)] string Name,
    [property: Id(1)] string Expression,
    [property: Id(2)] string? Cron,
    [property: Id(3)] DateTimeOffset? At,
    [property: Id(4)] int Target,
    [property: Id(5)] PlanPeriod Period);

/// <summary>As many instances as keep the part of their slots that is in use near a target.</summary>
/// <param name="Name">Name.</param>
/// <param name="Metric">As the caller wrote it; only use of slots can be followed.</param>
/// <param name="Target">Part in use that is aimed at: above 0, at most 1.</param>
/// <param name="Min">Fewest instances.</param>
/// <param name="Max">Most instances.</param>
/// <param name="Period">When it counts.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.TrackingPolicy")]
public sealed record TrackingPolicy(
    [property: Id(0)] string Name,
    [property: Id(1)] string Metric,
    [property: Id(2)] double Target,
    [property: Id(3)] int Min,
    [property: Id(4)] int Max,
    [property: Id(5)] PlanPeriod Period);

/// <summary>How many instances are to be there whether or not anything waits.</summary>
/// <param name="Target">Instances while nothing below says otherwise: 0 to 10,000.</param>
/// <param name="Schedules">Other numbers by time.</param>
/// <param name="Policies">Other numbers by use.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.InstancePlan")]
public sealed record InstancePlan(
    [property: Id(0)] int Target,
    [property: Id(1)] IReadOnlyList<ScheduledTarget> Schedules,
    [property: Id(2)] IReadOnlyList<TrackingPolicy> Policies);

/// <summary>Provision config of one qualifier (contract 1.3).</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.ProvisionConfig")]
public sealed record ProvisionConfig
{
    /// <summary>How many instances.</summary>
    [Id(0)] public required InstancePlan Plan { get; init; }

    /// <summary>Given back; here an instance always has its processors.</summary>
    [Id(1)] public bool AlwaysAllocateCpu { get; init; }

    /// <summary>Given back; here an instance always has its cards.</summary>
    [Id(2)] public bool AlwaysAllocateGpu { get; init; }
}

/// <summary>Scaling config of one qualifier (contract 1.3).</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.ScalingConfig")]
public sealed record ScalingConfig
{
    /// <summary>How many instances at least.</summary>
    [Id(0)] public required InstancePlan Plan { get; init; }

    /// <summary>Whether more instances come for what waits. Default true.</summary>
    [Id(1)] public bool OnDemand { get; init; } = true;

    /// <summary>True spreads runs evenly over instances with several slots; else the fullest goes first, so that others can leave.</summary>
    [Id(2)] public bool Balanced { get; init; }
}

/// <summary>What operators of a function set about how much of it runs.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.FunctionCapacity")]
public sealed record FunctionCapacity
{
    /// <summary>Nothing set.</summary>
    public static FunctionCapacity None { get; } = new();

    /// <summary>Most runs at once, whose part of the account's quota no other function may take; null for no limit.</summary>
    [Id(0)] public int? ReservedConcurrency { get; init; }

    /// <summary>Provision configs by qualifier.</summary>
    [Id(1)] public IReadOnlyDictionary<string, ProvisionConfig> Provision { get; init; } = new Dictionary<string, ProvisionConfig>();

    /// <summary>Scaling configs by qualifier.</summary>
    [Id(2)] public IReadOnlyDictionary<string, ScalingConfig> Scaling { get; init; } = new Dictionary<string, ScalingConfig>();

    /// <summary>Whether anything is set, so that the function's queue must live even while nothing waits.</summary>
    public bool IsSet => ReservedConcurrency is not null || Provision.Count > 0 || Scaling.Count > 0;
}
