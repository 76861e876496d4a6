namespace GpuTasks.Cards.Nvml;

/// <summary>How cards are read from the driver.</summary>
internal sealed record NvmlSettings
{
    /// <summary>File or name of the library.</summary>
    public string LibraryPath { get; init; } = NvmlLibrary.DefaultName;

    /// <summary>Names of types by parts of product names.</summary>
    public IReadOnlyDictionary<string, string> CardTypes { get; init; } = new Dictionary<string, string>();

    /// <summary>Pause between samples.</summary>
    public TimeSpan SamplePeriod { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>How long a call may take before its card is suspect.</summary>
    public TimeSpan HangAfter { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>Pause before a driver that is away is tried again.</summary>
    public TimeSpan RetryPeriod { get; init; } = TimeSpan.FromSeconds(10);
}
