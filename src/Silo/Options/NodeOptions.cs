using GpuTasks.Cards;
using GpuTasks.Containers;
using Microsoft.Extensions.Options;

namespace GpuTasks.Nodes;

/// <summary>Settings of a node: section <c>Node</c> of the configuration. Checked at start, all faults at once.</summary>
public sealed class NodeOptions
{
    /// <summary>Name of the configuration section.</summary>
    public const string Section = "Node";

    /// <summary>Node name, equal to the silo's: letters, digits, <c>_</c>, <c>-</c>, <c>.</c>; 1 to 63. Containers are found by it, so it must be unique on an engine.</summary>
    public string Name { get; set; } = "node-1";

    /// <summary>Region whose quota grain the node reports to; default <c>local</c>.</summary>
    public string Region { get; set; } = "local";

    /// <summary>Absolute folder for instances, logs and the epoch file; must survive restarts.</summary>
    public string DataDirectory { get; set; } = "";

    /// <summary>Absolute path of the static relay binary on this machine.</summary>
    public string RelayPath { get; set; } = "";

    /// <summary>Endpoint of the container engine; default <c>unix:///var/run/docker.sock</c>.</summary>
    public string DockerHost { get; set; } = "unix:///var/run/docker.sock";

    /// <summary>Simulated cards such as <c>fc.gpu.tesla.1:16384x4,fc.gpu.ada.1:49152</c>; empty (default) for the cards that the driver shows.</summary>
    public string Cards { get; set; } = "";

    /// <summary>File or name of the driver's library; empty (default) for the environment's <c>NVML_LIBRARY</c>, else <c>libnvidia-ml.so.1</c>.</summary>
    public string NvmlLibrary { get; set; } = "";

    /// <summary>Card types by parts of product names (whole words, case does not matter), such as <c>"RTX 5090": "fc.gpu.ada.2"</c>; they win over the built-in ones.</summary>
    public Dictionary<string, string> CardTypes { get; set; } = [];

    /// <summary>What a card is handed over with by device request: <c>compute</c>, <c>utility</c>, <c>video</c>, <c>graphics</c>, <c>display</c>, <c>compat32</c>; default <c>compute,utility</c>.</summary>
    public string CardCapabilities { get; set; } = "compute,utility";

    /// <summary>Pause between looks at cards and at who uses them: 100 ms to 1 min, default 1 s.</summary>
    public TimeSpan CardSamplePeriod { get; set; } = TimeSpan.FromSeconds(1);

    /// <summary>How long a call of the driver may take before its card is suspect: 100 ms to 5 min, default 10 s.</summary>
    public TimeSpan CardHangAfter { get; set; } = TimeSpan.FromSeconds(10);

    /// <summary>Processors that instances may be promised; null for the machine's. A larger number than the machine has is shared.</summary>
    public double? Cpus { get; set; }

    /// <summary>Memory that instances may be promised, in MiB; null for the machine's.</summary>
    public int? MemoryMiB { get; set; }

    /// <summary>Disk that instances may be promised, in MiB; null for what is free in <see cref="DataDirectory"/> at start.</summary>
    public int? DiskMiB { get; set; }

    /// <summary>Network of the engine for functions with <c>internetAccess: true</c>; null refuses them. It must keep containers away from silos and from each other.</summary>
    public string? EgressNetwork { get; set; }

    /// <summary>Whether a function that says nothing about <c>internetAccess</c> gets it; default false.</summary>
    public bool InternetAccessByDefault { get; set; }

    /// <summary>True refuses an engine without live-restore instead of warning: its restart would end every run. Default false.</summary>
    public bool RequireLiveRestore { get; set; }

    /// <summary>True mounts the image read-only with a <c>/tmp</c> in memory. Default false, as in the contract.</summary>
    public bool ReadOnlyRoot { get; set; }

    /// <summary>Most processes and threads of one instance: 64 to 1,048,576, default 1,024.</summary>
    public int PidsLimit { get; set; } = 1_024;

    /// <summary>Container starts at once: 0 (default) for the number of processors, else 1 to 256.</summary>
    public int ConcurrentStarts { get; set; }

    /// <summary>SIGTERM to SIGKILL: 0 s to 10 min, default 10 s.</summary>
    public TimeSpan StopGrace { get; set; } = TimeSpan.FromSeconds(10);

    /// <summary>Longest time until the function's server listens and is healthy: 1 s to 1 h, default 120 s (contract 5).</summary>
    public TimeSpan StartupTimeout { get; set; } = TimeSpan.FromSeconds(120);

    /// <summary>Longest pull of an image: 10 s to 6 h, default 30 min.</summary>
    public TimeSpan ImagePullTimeout { get; set; } = TimeSpan.FromMinutes(30);

    /// <summary>
    /// While less than this is free where the engine keeps images, in MiB, fetched images that nothing uses are removed, those unused longest
    /// first: 0 (never) to 1,073,741,824, default 10,240. What the operator put there stays.
    /// </summary>
    public int ImageFreeDiskMiB { get; set; } = 10_240;

    /// <summary>How long a relay may be silent in a running container before the instance is given up: 5 s to 1 h, default 60 s. Time in which the node itself was frozen does not count.</summary>
    public TimeSpan RelaySilence { get; set; } = TimeSpan.FromSeconds(60);

    /// <summary>Pause between reports: 100 ms to 10 s, default 5 s. The region calls a node unreachable after 15 s.</summary>
    public TimeSpan ReportPeriod { get; set; } = TimeSpan.FromSeconds(5);

    /// <summary>Pause between sweeps over containers and folders: 100 ms to 10 min, default 30 s.</summary>
    public TimeSpan SweepPeriod { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>How long a container of this node that belongs to no instance is left alone: 0 s to 1 h, default 60 s.</summary>
    public TimeSpan OrphanGrace { get; set; } = TimeSpan.FromSeconds(60);

    /// <summary>After how long a lease that nobody launched is given back: 1 s to 1 h, default 60 s.</summary>
    public TimeSpan UnusedLeaseGrace { get; set; } = TimeSpan.FromSeconds(60);

    /// <summary>Output kept of a running instance, in bytes: 64 KiB to 1 GiB, default 16 MiB. The oldest goes first.</summary>
    public long LogBytes { get; set; } = 16 << 20;

    /// <summary>
    /// Longest answer kept of a task, in bytes: 1 MiB to 32 MiB, default 8 MiB. What is longer
    /// than 1 MiB is read under <c>/v1</c>; what is longer than this is cut, and the task says so.
    /// </summary>
    public int MaxResultBytes { get; set; } = 8 << 20;

    /// <summary>Output kept of ended runs on the node, in MiB: 1 to 1,048,576, default 4,096. The oldest goes first.</summary>
    public int LogStoreMiB { get; set; } = 4_096;

    /// <summary>How long output of ended runs is kept: 1 min to 365 days, default 7 days.</summary>
    public TimeSpan LogRetention { get; set; } = TimeSpan.FromDays(7);
}

/// <summary>Checks <see cref="NodeOptions"/> and names every fault at once.</summary>
internal sealed class NodeOptionsValidator : IValidateOptions<NodeOptions>
{
    public ValidateOptionsResult Validate(string? name, NodeOptions options)
    {
        var faults = new List<string>();

        void Need(bool holds, string fault)
        {
            if (!holds)
            {
                faults.Add($"{NodeOptions.Section}:{fault}");
            }
        }

        void Between(string member, TimeSpan value, TimeSpan least, TimeSpan most) =>
            Need(value >= least && value <= most, $"{member} is {value}; allowed are {least} to {most}.");

        Need(SafeName.IsValid(options.Name, 63), $"Name is '{options.Name}'; needed are 1 to 63 letters, digits, '_', '-', '.', not starting with '.' or '-'.");
        Need(SafeName.IsValid(options.Region, 63), $"Region is '{options.Region}'; needed are 1 to 63 letters, digits, '_', '-', '.', not starting with '.' or '-'.");
        Need(Path.IsPathFullyQualified(options.DataDirectory), $"DataDirectory is '{options.DataDirectory}'; an absolute path is needed.");
        // A colon would be read as the end of the source in a bind.
        Need(!options.DataDirectory.Contains(':', StringComparison.Ordinal), "DataDirectory contains ':', which a bind mount cannot express.");
        Need(!options.RelayPath.Contains(':', StringComparison.Ordinal), "RelayPath contains ':', which a bind mount cannot express.");
        Need(Path.IsPathFullyQualified(options.RelayPath) && File.Exists(options.RelayPath), $"RelayPath is '{options.RelayPath}'; the absolute path of the relay binary is needed.");
        Need(Uri.TryCreate(options.DockerHost, UriKind.Absolute, out var host) && host.Scheme is "unix" or "tcp" or "http" or "https", $"DockerHost is '{options.DockerHost}'; such as unix:///var/run/docker.sock is needed.");
        if (!CardSpec.TryParse(options.Cards, out _, out var fault))
        {
            Need(false, $"Cards: {fault}");
        }

        foreach (var (product, type) in options.CardTypes)
        {
            Need(!string.IsNullOrWhiteSpace(product) && CardTypes.IsType(type), $"CardTypes: '{product}' is '{type}'; needed is part of a product name and a type of 1 to 64 letters, digits, '.', '-', '_'.");
        }

        Need(HandOver.AreCapabilities(options.CardCapabilities), $"CardCapabilities is '{options.CardCapabilities}'; needed are some of compute, utility, video, graphics, display, compat32, with commas between them, and utility or compute among them.");
        Need(options.Cpus is null or (>= 0.05 and <= 4_096), $"Cpus is {options.Cpus}; allowed are 0.05 to 4,096.");
        Need(options.MemoryMiB is null or (>= 128 and <= 1 << 26), $"MemoryMiB is {options.MemoryMiB}; allowed are 128 to 67,108,864.");
        Need(options.DiskMiB is null or (>= 512 and <= 1 << 30), $"DiskMiB is {options.DiskMiB}; allowed are 512 to 1,073,741,824.");
        Need(options.PidsLimit is >= 64 and <= 1 << 20, $"PidsLimit is {options.PidsLimit}; allowed are 64 to 1,048,576.");
        Need(options.ConcurrentStarts is >= 0 and <= 256, $"ConcurrentStarts is {options.ConcurrentStarts}; allowed are 0 to 256.");
        Need(options.LogBytes is >= 64 << 10 and <= 1 << 30, $"LogBytes is {options.LogBytes}; allowed are 65,536 to 1,073,741,824.");
        Need(options.MaxResultBytes is >= 1 << 20 and <= RunReports.SyncResponseLimit, $"MaxResultBytes is {options.MaxResultBytes}; allowed are 1,048,576 to {RunReports.SyncResponseLimit}.");
        Need(options.LogStoreMiB is >= 1 and <= 1 << 20, $"LogStoreMiB is {options.LogStoreMiB}; allowed are 1 to 1,048,576.");
        Need(options.ImageFreeDiskMiB is >= 0 and <= 1 << 30, $"ImageFreeDiskMiB is {options.ImageFreeDiskMiB}; allowed are 0 to 1,073,741,824.");
        Between(nameof(options.StopGrace), options.StopGrace, TimeSpan.Zero, TimeSpan.FromMinutes(10));
        Between(nameof(options.StartupTimeout), options.StartupTimeout, TimeSpan.FromSeconds(1), TimeSpan.FromHours(1));
        Between(nameof(options.ImagePullTimeout), options.ImagePullTimeout, TimeSpan.FromSeconds(10), TimeSpan.FromHours(6));
        Between(nameof(options.RelaySilence), options.RelaySilence, TimeSpan.FromSeconds(5), TimeSpan.FromHours(1));
        Between(nameof(options.ReportPeriod), options.ReportPeriod, TimeSpan.FromMilliseconds(100), TimeSpan.FromSeconds(10));
        Between(nameof(options.SweepPeriod), options.SweepPeriod, TimeSpan.FromMilliseconds(100), TimeSpan.FromMinutes(10));
        Between(nameof(options.OrphanGrace), options.OrphanGrace, TimeSpan.Zero, TimeSpan.FromHours(1));
        Between(nameof(options.UnusedLeaseGrace), options.UnusedLeaseGrace, TimeSpan.FromSeconds(1), TimeSpan.FromHours(1));
        Between(nameof(options.CardSamplePeriod), options.CardSamplePeriod, TimeSpan.FromMilliseconds(100), TimeSpan.FromMinutes(1));
        Between(nameof(options.CardHangAfter), options.CardHangAfter, TimeSpan.FromMilliseconds(100), TimeSpan.FromMinutes(5));
        Between(nameof(options.LogRetention), options.LogRetention, TimeSpan.FromMinutes(1), TimeSpan.FromDays(365));

        return faults.Count == 0 ? ValidateOptionsResult.Success : ValidateOptionsResult.Fail(faults);
    }
}
