using GpuTasks.Cards.Nvml;

namespace GpuTasks.Cards;

/// <summary>A process that uses a card.</summary>
/// <param name="Pid">Its number on the machine.</param>
/// <param name="UsedBytes">Its memory on the card; null if the driver does not say.</param>
internal sealed record CardProcess(uint Pid, ulong? UsedBytes);

/// <summary>What was read of one card at one moment. A value that the driver does not give is null, never 0.</summary>
internal sealed record CardSample
{
    /// <summary>Identity.</summary>
    public required string Uuid { get; init; }

    /// <summary>The driver's count in this session; not stable over restarts.</summary>
    public int Index { get; init; }

    /// <summary>Product name.</summary>
    public string Name { get; init; } = "";

    /// <summary>Place on the bus as the driver writes it.</summary>
    public string BusId { get; init; } = "";

    /// <summary>Identity of the card of which this is a part divided by hardware; empty for a whole card.</summary>
    public string Parent { get; init; } = "";

    /// <summary>When reading it began.</summary>
    public DateTimeOffset At { get; init; }

    /// <summary>Grows with each look at the cards.</summary>
    public long Round { get; init; }

    /// <summary>Success, or why the card as such does not answer.</summary>
    public NvmlReturn Health { get; init; }

    /// <summary>All memory.</summary>
    public ulong TotalBytes { get; init; }

    /// <summary>What the driver keeps for itself; 0 if an older driver does not say.</summary>
    public ulong ReservedBytes { get; init; }

    /// <summary>What is in use.</summary>
    public ulong UsedBytes { get; init; }

    /// <summary>False when <see cref="UsedBytes"/> includes the driver's own part.</summary>
    public bool UsedIsExact { get; init; }

    /// <summary>Temperature in degrees Celsius.</summary>
    public int? TemperatureCelsius { get; init; }

    /// <summary>Share of time in which anything ran on it, in per cent.</summary>
    public int? UtilizationPercent { get; init; }

    /// <summary>Power in watts.</summary>
    public double? PowerWatts { get; init; }

    /// <summary>NUMA node of its slot.</summary>
    public int? NumaNode { get; init; }

    /// <summary>Cards with an equal number reach each other by NVLink or over switches alone.</summary>
    public int? LinkGroup { get; init; }

    /// <summary>Memory errors that were not corrected since the driver was loaded.</summary>
    public ulong? UncorrectedErrors { get; init; }

    /// <summary>A worn row is replaced at the next reset; usable until then.</summary>
    public bool RemapPending { get; init; }

    /// <summary>No spare row was left: the card must be exchanged.</summary>
    public bool RemapFailed { get; init; }

    /// <summary>What the driver wants done with the card: 0 nothing, 1 reset, 2 reboot, 3 drain, 4 drain and reset; null if it has no opinion.</summary>
    public uint? RecoveryAction { get; init; }

    /// <summary>Why it is clocked down, as the driver's bits.</summary>
    public ulong? ThrottleReasons { get; init; }

    /// <summary>Who uses it.</summary>
    public IReadOnlyList<CardProcess> Processes { get; init; } = [];

    /// <summary>False if the driver did not list processes.</summary>
    public bool ProcessesAreKnown { get; init; }

    /// <summary>What leases can share, in MiB.</summary>
    public int LeasableMiB => (int)((TotalBytes - Math.Min(TotalBytes, ReservedBytes)) >> 20);
}
