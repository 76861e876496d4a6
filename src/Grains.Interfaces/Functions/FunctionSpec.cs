using GpuTasks.Security;

namespace GpuTasks.Functions;

/// <summary>GPU that one instance gets (contract 6).</summary>
/// <param name="Type">Card type such as <c>fc.gpu.tesla.1</c>.</param>
/// <param name="MemoryMiB">GPU memory; a part of one card, one card, or a multiple of one card's.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.GpuSpec")]
public sealed record GpuSpec([property: Id(0)] string Type, [property: Id(1)] int MemoryMiB);

/// <summary>HTTP health check of an instance (contract 1.3).</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.HealthCheckSpec")]
public sealed record HealthCheckSpec
{
    /// <summary>Path asked with GET, such as <c>/ready</c>.</summary>
    [Id(0)] public required string HttpGetUrl { get; init; }

    /// <summary>Pause before the first check: 0 to 120 s, default 0.</summary>
    [Id(1)] public int InitialDelaySeconds { get; init; }

    /// <summary>Pause between checks: 1 to 120 s, default 3.</summary>
    [Id(2)] public int PeriodSeconds { get; init; } = 3;

    /// <summary>Longest wait for an answer: 1 to 3 s, default 1.</summary>
    [Id(3)] public int TimeoutSeconds { get; init; } = 1;

    /// <summary>Failures in a row that make an instance unfit: 1 to 120, default 3.</summary>
    [Id(4)] public int FailureThreshold { get; init; } = 3;

    /// <summary>Successes in a row that make it fit: 1 to 120, default 1.</summary>
    [Id(5)] public int SuccessThreshold { get; init; } = 1;
}

/// <summary>A hook of the instance's life (contract 5): called over HTTP at its control path.</summary>
/// <param name="Handler">The contract's handler text; given back, not read.</param>
/// <param name="TimeoutSeconds">Longest wait: 1 to 300 s for the initializer, 1 to 90 s before a stop.</param>
[GenerateSerializer, Immutable, Alias("GpuTasks.HookSpec")]
public sealed record HookSpec([property: Id(0)] string Handler, [property: Id(1)] int TimeoutSeconds);

/// <summary>The image and how to start and ask it.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.ContainerSpec")]
public sealed record ContainerSpec
{
    /// <summary>Image reference as the engine understands it.</summary>
    [Id(0)] public required string Image { get; init; }

    /// <summary>Port of the web server: 1 to 65,535, default 9000.</summary>
    [Id(1)] public int Port { get; init; } = 9000;

    /// <summary>Start command; empty for the image's own.</summary>
    [Id(2)] public IReadOnlyList<string> Entrypoint { get; init; } = [];

    /// <summary>Arguments of the start command; empty for the image's own.</summary>
    [Id(3)] public IReadOnlyList<string> Command { get; init; } = [];

    /// <summary>Health check, or null: then a listening port is enough.</summary>
    [Id(4)] public HealthCheckSpec? HealthCheck { get; init; }

    /// <summary>User at the image's registry, or null.</summary>
    [Id(5)] public string? RegistryUser { get; init; }

    /// <summary>Password at the image's registry, or null.</summary>
    [Id(6), Secret] public string? RegistryPassword { get; init; }

    /// <summary>Without the password, since texts of records end up in logs.</summary>
    public override string ToString() => Image;
}

/// <summary>What a function is: image, resources and rules. Checked by the gateway, kept by its grain.</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.FunctionSpec")]
public sealed record FunctionSpec
{
    /// <summary>Letters, digits, <c>_</c>, <c>-</c>; not starting with a digit or <c>-</c>; 1 to 128.</summary>
    [Id(0)] public required string Name { get; init; }

    /// <summary>Free text.</summary>
    [Id(1)] public string Description { get; init; } = "";

    /// <summary><c>custom-container</c>.</summary>
    [Id(2)] public string Runtime { get; init; } = "custom-container";

    /// <summary>Meaningless for containers, but part of the contract.</summary>
    [Id(3)] public string Handler { get; init; } = "";

    /// <summary>Processors of one instance: 0.05 to 16 in steps of 0.05, times the number of cards.</summary>
    [Id(4)] public double Cpu { get; init; } = 0.35;

    /// <summary>Memory of one instance: 128 to 98,304 MiB in steps of 64, times the number of cards.</summary>
    [Id(5)] public int MemoryMiB { get; init; } = 512;

    /// <summary>Writable disk of one instance: 512 or 10,240 MiB, default 512.</summary>
    [Id(6)] public int DiskMiB { get; init; } = 512;

    /// <summary>GPU of one instance, or null for a function that needs none.</summary>
    [Id(7)] public GpuSpec? Gpu { get; init; }

    /// <summary>Longest run of one attempt: 1 s to 86,400 s, default 3 s (contract 1.3).</summary>
    [Id(8)] public int TimeoutSeconds { get; init; } = 3;

    /// <summary>Runs at once in one instance: 1 to 200, default 1.</summary>
    [Id(9)] public int InstanceConcurrency { get; init; } = 1;

    /// <summary>The function's own environment variables, at most 4 KB in all.</summary>
    [Id(10), Secret] public IReadOnlyDictionary<string, string> Environment { get; init; } = new Dictionary<string, string>();

    /// <summary>The image and how to start it.</summary>
    [Id(11)] public required ContainerSpec Container { get; init; }

    /// <summary>Called once per instance before its first run, or null.</summary>
    [Id(12)] public HookSpec? Initializer { get; init; }

    /// <summary>Called once before an instance is stopped, or null.</summary>
    [Id(13)] public HookSpec? PreStop { get; init; }

    /// <summary>True asks for a network beyond the container; null leaves it to the operator's default.</summary>
    [Id(14)] public bool? InternetAccess { get; init; }

    /// <summary>How long an instance without work stays: 1 s to 86,400 s, or null for the operator's default.</summary>
    [Id(15)] public int? IdleTimeoutSeconds { get; init; }

    /// <summary>Fields of the contract that are only stored and given back: name to JSON text.</summary>
    [Id(16)] public IReadOnlyDictionary<string, string> StoredFields { get; init; } = new Dictionary<string, string>();

    /// <summary>Tags: key to value.</summary>
    [Id(17)] public IReadOnlyDictionary<string, string> Tags { get; init; } = new Dictionary<string, string>();

    /// <summary>
    /// After how long without contact a node's runs count as lost and run again elsewhere: 10 s to 604,800 s, default 3,600 s;
    /// 0 never gives them up without proof. The instance ends them by itself when this has passed.
    /// </summary>
    [Id(18)] public int NodeLostTimeoutSeconds { get; init; } = 3_600;
}
