using System.Collections.Concurrent;
using System.Globalization;
using System.Runtime.InteropServices;

namespace GpuTasks.Cards.Nvml;

/// <summary>Reads everything about the cards once, in one go and on the caller's thread. Any call may block for long on a sick card.</summary>
internal sealed class NvmlReader(NvmlLibrary nvml, TimeProvider time, string sysfs = "/sys")
{
    private static readonly string[] ProcessLists = ["Compute", "Graphics", "MPSCompute"];

    // Within one session of the library the order of cards stays, so a card that answers nothing any more is still known by it.
    private readonly ConcurrentDictionary<uint, CardSample> known = new();
    private readonly ConcurrentDictionary<uint, int> linkGroups = new();

    /// <summary>Cards by the driver's count.</summary>
    /// <param name="skip">Cards inside whose calls somebody hangs.</param>
    /// <param name="progress">How far it has come.</param>
    /// <param name="facts">What is wrong beyond single cards that are listed.</param>
    public NvmlReturn Read(Func<uint, bool> skip, NvmlProgress progress, out List<CardSample> cards, out List<string> facts)
    {
        cards = [];
        facts = [];
        progress.Card = -1;
        var code = nvml.GetCount(out var count);
        if (code != NvmlReturn.Success)
        {
            return code;
        }

        for (var index = 0u; index < count; index++)
        {
            if (skip(index))
            {
                continue;
            }

            progress.Card = (int)index;
            var at = time.GetUtcNow();
            code = nvml.GetHandle(index, out var device);
            var uuid = "";
            if (code == NvmlReturn.Success)
            {
                code = nvml.GetUuid(device, out uuid);
            }

            if (code == NvmlReturn.LibraryMismatch || code == NvmlReturn.Uninitialized)
            {
                return code;
            }

            if (code != NvmlReturn.Success)
            {
                // One bad card never hides its neighbours.
                if (known.TryGetValue(index, out var lost))
                {
                    cards.Add(lost with { At = at, Health = code, Processes = [] });
                }
                else
                {
                    facts.Add($"Card {index.ToString(CultureInfo.InvariantCulture)} cannot be read: {NvmlReturns.CardFact(code)}.");
                }

                continue;
            }

            var card = ReadCard(index, device, uuid, at);
            known[index] = card;
            if (nvml.GetMigMode(device, out var mig) == NvmlReturn.Success && mig == 1)
            {
                ReadParts(card, device, cards, facts);
            }
            else
            {
                cards.Add(card);
            }
        }

        progress.Card = -1;
        return NvmlReturn.Success;
    }

    /// <summary>Finds which cards are near each other; done once, since it does not change.</summary>
    public void ReadLinks(NvmlProgress progress)
    {
        if (nvml.GetCount(out var count) != NvmlReturn.Success)
        {
            return;
        }

        var handles = new List<(uint Index, nint Device)>();
        for (var index = 0u; index < count; index++)
        {
            progress.Card = (int)index;
            if (nvml.GetHandle(index, out var device) == NvmlReturn.Success)
            {
                handles.Add((index, device));
            }
        }

        foreach (var (index, device) in handles)
        {
            progress.Card = (int)index;
            linkGroups[index] = (int)index;
            foreach (var (before, other) in handles.Where(pair => pair.Index < index))
            {
                if ((nvml.GetNvLinked(device, other, out var linked) == NvmlReturn.Success && linked)
                    || (nvml.GetCommonAncestor(device, other, out var level) == NvmlReturn.Success && level <= 20))
                {
                    linkGroups[index] = linkGroups[before];
                    break;
                }
            }
        }

        progress.Card = -1;
    }

    private CardSample ReadCard(uint index, nint device, string uuid, DateTimeOffset at)
    {
        nvml.GetName(device, out var name);
        var bus = nvml.GetPciInfo(device, out var pci) == NvmlReturn.Success
            ? NvmlLibrary.Text(MemoryMarshal.CreateReadOnlySpan(ref pci.BusId.First, 32))
            : "";
        var health = ReadMemory(device, out var total, out var reserved, out var used, out var exact);
        if (health is not (NvmlReturn.GpuIsLost or NvmlReturn.ResetRequired))
        {
            health = NvmlReturn.Success; // A value that is missing is no illness.
        }

        uint? Optional(NvmlReturn code, uint value)
        {
            if (code is NvmlReturn.GpuIsLost or NvmlReturn.ResetRequired)
            {
                health = code;
            }

            return code == NvmlReturn.Success ? value : null;
        }

        var temperature = Optional(nvml.GetTemperature(device, out var celsius), celsius);
        var utilization = Optional(nvml.GetUtilization(device, out var rates), rates.Gpu);
        var power = Optional(nvml.GetPower(device, out var milliwatts), milliwatts);
        var action = Optional(nvml.GetRecoveryAction(device, out var wanted), wanted);
        var remap = nvml.GetRemappedRows(device, out _, out var pending, out var failed) == NvmlReturn.Success;
        return new CardSample
        {
            Uuid = uuid,
            Index = (int)index,
            Name = name,
            BusId = bus,
            At = at,
            Health = health,
            TotalBytes = total,
            ReservedBytes = reserved,
            UsedBytes = used,
            UsedIsExact = exact,
            TemperatureCelsius = (int?)temperature,
            UtilizationPercent = (int?)utilization,
            PowerWatts = power / 1_000.0,
            NumaNode = nvml.GetNumaNode(device, out var node) == NvmlReturn.Success ? (int)node : NumaOf(bus),
            LinkGroup = linkGroups.TryGetValue(index, out var group) ? group : null,
            UncorrectedErrors = nvml.GetUncorrectedErrors(device, out var errors) == NvmlReturn.Success ? errors : null,
            RemapPending = remap && pending != 0,
            RemapFailed = remap && failed != 0,
            RecoveryAction = action,
            ThrottleReasons = nvml.GetThrottleReasons(device, out var reasons) == NvmlReturn.Success ? reasons : null,
            Processes = ReadProcesses(device, out var whole),
            ProcessesAreKnown = whole,
        };
    }

    /// <summary>The parts of a card that the operator has divided by hardware; the card itself cannot be given out then.</summary>
    private void ReadParts(CardSample card, nint device, List<CardSample> cards, List<string> facts)
    {
        if (nvml.GetMaxMigDevices(device, out var most) != NvmlReturn.Success)
        {
            most = 0;
        }

        var found = 0;
        for (var i = 0u; i < most; i++)
        {
            // Places without a part are normal.
            if (nvml.GetMigHandle(device, i, out var part) != NvmlReturn.Success || nvml.GetUuid(part, out var uuid) != NvmlReturn.Success)
            {
                continue;
            }

            nvml.GetName(part, out var name);
            ReadMemory(part, out var total, out var reserved, out var used, out var exact);
            cards.Add(card with
            {
                Uuid = uuid,
                Name = name.Contains(" MIG ", StringComparison.Ordinal) ? name : $"{card.Name} MIG {total >> 20} MiB",
                Parent = card.Uuid,
                TotalBytes = total,
                ReservedBytes = reserved,
                UsedBytes = used,
                UsedIsExact = exact,
                UtilizationPercent = null,
                Processes = ReadProcesses(part, out var whole),
                ProcessesAreKnown = whole,
            });
            found++;
        }

        if (found == 0)
        {
            facts.Add($"Card {card.Uuid} ({card.Name}) is in MIG mode but has no MIG devices: nothing of it can be leased.");
        }
    }

    private NvmlReturn ReadMemory(nint device, out ulong total, out ulong reserved, out ulong used, out bool exact)
    {
        var code = nvml.GetMemoryV2(device, out var memory);
        exact = code == NvmlReturn.Success;
        (total, reserved, used) = (memory.Total, memory.Reserved, memory.Used);
        if (code is NvmlReturn.FunctionNotFound or NvmlReturn.NotSupported or NvmlReturn.ArgumentVersionMismatch)
        {
            code = nvml.GetMemory(device, out var older);
            (total, reserved, used) = (older.Total, 0, older.Used);
        }

        if (code != NvmlReturn.Success)
        {
            (total, reserved, used) = (0, 0, 0);
        }

        return code;
    }

    private List<CardProcess> ReadProcesses(nint device, out bool whole)
    {
        var processes = new Dictionary<uint, ulong?>();
        whole = false;
        foreach (var list in ProcessLists)
        {
            var code = nvml.GetProcesses(list, device, out var found);
            whole |= list == "Compute" && code == NvmlReturn.Success;
            foreach (var process in found)
            {
                var used = process.UsedMemory == NvmlProcessInfo.Unknown ? (ulong?)null : process.UsedMemory;
                // The same process may be in several lists, with the same sum in each.
                processes[process.Pid] = processes.TryGetValue(process.Pid, out var before) && (before ?? 0) >= (used ?? 0) ? before : used;
            }
        }

        return [.. processes.Select(pair => new CardProcess(pair.Key, pair.Value))];
    }

    private int? NumaOf(string bus)
    {
        // The driver writes the domain with eight digits, the kernel with four.
        if (bus.Length != 16)
        {
            return null;
        }

        try
        {
            var text = File.ReadAllText(Path.Combine(sysfs, "bus/pci/devices", bus[4..].ToLowerInvariant(), "numa_node"));
            return int.TryParse(text.Trim(), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var node) && node >= 0 ? node : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
