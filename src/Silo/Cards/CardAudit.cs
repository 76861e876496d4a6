using System.Globalization;
using GpuTasks.Nodes;

namespace GpuTasks.Cards;

/// <summary>Whose a process on a card is.</summary>
internal enum ProcessOwner
{
    /// <summary>It has ended, or runs where this machine's process list does not show it.</summary>
    Unseen = 0,

    /// <summary>A living instance of this node.</summary>
    Instance = 1,

    /// <summary>The instance whose end is being proved.</summary>
    Ending = 2,

    /// <summary>Somebody outside of the platform.</summary>
    Foreign = 3,
}

/// <summary>A process on a card with its owner.</summary>
/// <param name="Process">The process.</param>
/// <param name="Owner">Kind of owner.</param>
/// <param name="InstanceId">Living instance, if that is the owner; else empty.</param>
internal sealed record OwnedProcess(CardProcess Process, ProcessOwner Owner, string InstanceId = "");

/// <summary>What was found out about a card that somebody is leaving.</summary>
/// <param name="State">Ready if it is clean; Dirty while the earlier holder is not proved gone; Foreign if somebody else is on it.</param>
/// <param name="Detail">Why.</param>
/// <param name="Orphans">Processes of the earlier holder that outlived its container.</param>
internal sealed record CleanFinding(CardState State, string Detail, IReadOnlyList<uint> Orphans);

/// <summary>The rules about who may be on a card. No I/O.</summary>
internal static class CardAudit
{
    /// <summary>What an idle card may use beyond its slices.</summary>
    public const int IdleMiB = 64;

    /// <summary>How far above its part of a card an instance may be, as rounding and contexts cost something too.</summary>
    public const double SliceMargin = 1.05;

    /// <summary>Whether a card can be given to somebody else, as far as its earlier holder and strangers are concerned.</summary>
    /// <param name="sample">A sample begun after the earlier holder's container was removed; null if the driver gave none.</param>
    /// <param name="processes">Its processes.</param>
    /// <param name="othersMiB">What the other living holders of the card may use.</param>
    /// <param name="idleMiB">What the driver itself uses on it where it cannot tell that apart.</param>
    public static CleanFinding Judge(CardSample? sample, IReadOnlyList<OwnedProcess> processes, int othersMiB, int idleMiB)
    {
        if (sample is null)
        {
            return new(CardState.Dirty, "the driver does not tell who is on it", []);
        }

        var orphans = processes.Where(process => process.Owner == ProcessOwner.Ending).Select(process => process.Process.Pid).ToList();
        if (orphans.Count > 0)
        {
            return new(CardState.Dirty, $"the earlier holder's processes {string.Join(", ", orphans)} have not ended", orphans);
        }

        var strangers = processes.Where(process => process.Owner == ProcessOwner.Foreign).Select(process => process.Process.Pid).ToList();
        if (strangers.Count > 0)
        {
            return new(CardState.Foreign, $"used by processes outside of the platform: {string.Join(", ", strangers)}", []);
        }

        var unseen = processes.Where(process => process.Owner == ProcessOwner.Unseen).Select(process => process.Process.Pid).ToList();
        if (unseen.Count > 0 && othersMiB == 0)
        {
            return new(CardState.Dirty, $"used by processes that this machine does not show: {string.Join(", ", unseen)}", []);
        }

        var used = (int)(sample.UsedBytes >> 20);
        var allowed = IdleMiB + othersMiB + idleMiB;
        return used > allowed
            ? new(CardState.Dirty, string.Create(CultureInfo.InvariantCulture, $"{used} MiB are in use and {allowed} can be explained"), [])
            : new(CardState.Ready, "", []);
    }

    /// <summary>What each living instance uses on a card, in MiB; one of whose processes the driver does not know the use is left out.</summary>
    public static Dictionary<string, int> UseOf(IReadOnlyList<OwnedProcess> processes) => processes
        .Where(process => process.Owner == ProcessOwner.Instance)
        .GroupBy(process => process.InstanceId, StringComparer.Ordinal)
        .Where(group => group.All(process => process.Process.UsedBytes is not null))
        .ToDictionary(group => group.Key, group => (int)(group.Sum(process => (double)process.Process.UsedBytes!.Value) / (1 << 20)), StringComparer.Ordinal);

    /// <summary>True if an instance is too far above its part of a card.</summary>
    public static bool IsOver(int usedMiB, int sliceMiB) => usedMiB > sliceMiB * SliceMargin;

    /// <summary>Pause before the next look at a card that is not clean: 2 s, doubled each time, at most a minute.</summary>
    public static TimeSpan PauseAfter(int looks) => TimeSpan.FromSeconds(Math.Min(60, 2 << Math.Clamp(looks - 1, 0, 10)));
}
