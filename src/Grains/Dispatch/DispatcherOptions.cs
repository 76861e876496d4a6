using System.ComponentModel.DataAnnotations;

namespace GpuTasks.Dispatch;

/// <summary>How functions' queues and instances behave. Configuration section <c>GpuTasks:Dispatch</c>.</summary>
public sealed class DispatcherOptions
{
    /// <summary>Configuration section.</summary>
    public const string Section = "GpuTasks:Dispatch";

    /// <summary>Region this cluster serves; key of its quota grain. Default <c>local-1</c>.</summary>
    [Required]
    public string Region { get; set; } = "local-1";

    /// <summary>How long an instance without work stays, where the function does not say: 1 s to 86,400 s, default 60 s.</summary>
    [Range(1, 86_400)]
    public int IdleTimeoutSeconds { get; set; } = 60;

    /// <summary>Waiting tasks that one dispatcher holds in memory: 16 to 100,000, default 2,000.</summary>
    [Range(16, 100_000)]
    public int WindowCapacity { get; set; } = 2_000;
}
