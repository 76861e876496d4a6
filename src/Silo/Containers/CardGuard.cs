using System.Globalization;
using GpuTasks.Cards;
using GpuTasks.Nodes;
using GpuTasks.Quota;
using GpuTasks.Tasks;

namespace GpuTasks.Containers;

/// <summary>An instance that holds cards, as the guard sees it.</summary>
/// <param name="Lease">Its lease.</param>
/// <param name="Condemn">Ends it.</param>
internal sealed record CardHolder(Lease Lease, Action<LaunchFailure> Condemn);

/// <summary>
/// Watches who is on the node's real cards: ends who uses more than its part, keeps cards with strangers on them from
/// new leases, ends holders of cards that fail, and proves a card clean before its lease is given back.
/// </summary>
internal sealed partial class CardGuard : IDisposable
{
    private const string CleanReason = "clean check";
    private const string ForeignReason = "strangers";
    private const string FaultReason = "faults of programs";
    private const string HandOverReason = "hand-over";
    private const int FaultsToDrain = 5;
    private const int HandOversToSuspect = 3;
    private static readonly TimeSpan FaultMemory = TimeSpan.FromHours(1);
    private static readonly TimeSpan AlarmAfter = TimeSpan.FromMinutes(5);
    private static readonly TimeSpan HandOverPause = TimeSpan.FromMinutes(10);

    private readonly Lock gate = new();
    private readonly ICardSource cards;
    private readonly IContainerEngine engine;
    private readonly string node;
    private readonly TimeProvider time;
    private readonly ILogger logger;
    private readonly Func<IEnumerable<CardHolder>> holders;
    private readonly ProcessList processes;
    private readonly Func<int, TimeSpan> pauseAfter;
    private readonly Dictionary<string, int> strangers = new(StringComparer.Ordinal);
    private readonly Dictionary<(string Uuid, string Instance), (int Count, long Round)> over = [];
    private readonly Dictionary<string, int> idleMiB = new(StringComparer.Ordinal);
    private readonly Dictionary<string, List<(string Instance, DateTimeOffset At)>> faults = new(StringComparer.Ordinal);
    private readonly Dictionary<string, (int Count, long Last)> handOvers = new(StringComparer.Ordinal);

    public CardGuard(
        ICardSource cards,
        IContainerEngine engine,
        string node,
        TimeProvider time,
        ILogger logger,
        Func<IEnumerable<CardHolder>> holders,
        ProcessList? processes = null,
        Func<int, TimeSpan>? pauseAfter = null)
    {
        this.cards = cards;
        this.engine = engine;
        this.node = node;
        this.time = time;
        this.logger = logger;
        this.holders = holders;
        this.processes = processes ?? new ProcessList();
        this.pauseAfter = pauseAfter ?? CardAudit.PauseAfter;
        cards.Faulted += OnFaulted;
    }

    /// <summary>Stops to hear of faults.</summary>
    public void Dispose() => cards.Faulted -= OnFaulted;

    /// <summary>One look at all real cards.</summary>
    public async Task CheckAsync(CancellationToken cancellationToken)
    {
        var samples = cards.Cards
            .Where(card => !card.Simulated && !card.Stale)
            .Select(card => cards.SampleOf(card.Uuid))
            .OfType<CardSample>()
            .ToList();
        if (samples.Count == 0)
        {
            return;
        }

        // Listed after the samples were taken: whoever is in them and not in the list belongs to nobody here.
        var containers = samples.Any(sample => sample.Processes.Count > 0)
            ? await ContainersAsync(cancellationToken)
            : [];
        var living = holders().ToList();
        foreach (var sample in samples)
        {
            var owned = OwnersOf(sample, containers, "");
            WatchSlices(sample, owned, living);
            WatchStrangers(sample, owned, living);
        }

        Forgive();
    }

    /// <summary>Returns once every real card of an ended instance is proved free of it; its container has been removed before.</summary>
    /// <param name="lease">Its lease.</param>
    /// <param name="container">Its container's full id; empty if that is not known.</param>
    /// <param name="cancellationToken">Ends the wait; nothing is proved then.</param>
    public async Task ProveCleanAsync(Lease lease, string container, CancellationToken cancellationToken)
    {
        foreach (var uuid in lease.Cards.Select(share => share.Uuid).Distinct(StringComparer.Ordinal))
        {
            if (cards.Cards.FirstOrDefault(card => card.Uuid == uuid) is { Simulated: false })
            {
                await ProveCleanAsync(uuid, lease.InstanceId, container, cancellationToken);
            }
        }
    }

    /// <summary>Notes that cards could not be handed over: once may be the engine's fault, again and again is the card's.</summary>
    public void HandOverFailed(IEnumerable<string> uuids, string message)
    {
        foreach (var uuid in uuids)
        {
            lock (gate)
            {
                var count = handOvers.GetValueOrDefault(uuid).Count + 1;
                handOvers[uuid] = (count, time.GetTimestamp());
                if (count < HandOversToSuspect)
                {
                    continue;
                }
            }

            cards.Hold(uuid, HandOverReason, CardState.Suspect, $"it could not be handed over {HandOversToSuspect} times in a row: {message}");
        }
    }

    /// <summary>Notes that cards got into a container.</summary>
    public void HandedOver(IEnumerable<string> uuids)
    {
        foreach (var uuid in uuids)
        {
            lock (gate)
            {
                if (!handOvers.Remove(uuid))
                {
                    continue;
                }
            }

            cards.Hold(uuid, HandOverReason, CardState.Ready, "");
        }
    }

    private async Task ProveCleanAsync(string uuid, string instanceId, string container, CancellationToken cancellationToken)
    {
        var since = time.GetTimestamp();
        long? alarmed = null;
        for (var looks = 1; ; looks++)
        {
            var sample = await cards.SampleNowAsync(uuid, cancellationToken);
            if (cards.Cards.FirstOrDefault(card => card.Uuid == uuid) is { State: CardState.Failed } broken)
            {
                // It takes no lease in this state; who held it need not wait for its repair.
                LogLeftBroken(logger, uuid, instanceId, broken.Detail);
                cards.Hold(uuid, CleanReason, CardState.Ready, "");
                return;
            }

            var containers = sample is { Processes.Count: > 0 } ? await ContainersAsync(cancellationToken) : [];
            var othersMiB = holders()
                .Where(holder => holder.Lease.InstanceId != instanceId)
                .SelectMany(holder => holder.Lease.Cards)
                .Where(share => share.Uuid == uuid)
                .Sum(share => share.MemoryMiB);
            var finding = CardAudit.Judge(sample, sample is null ? [] : OwnersOf(sample, containers, container), othersMiB, sample is null ? 0 : IdleOf(sample));
            if (finding.State == CardState.Ready)
            {
                cards.Hold(uuid, CleanReason, CardState.Ready, "");
                return;
            }

            if (finding.State == CardState.Foreign)
            {
                // The earlier holder is gone; the strangers alone keep the card from the next.
                cards.Hold(uuid, ForeignReason, CardState.Foreign, finding.Detail);
                cards.Hold(uuid, CleanReason, CardState.Ready, "");
                LogForeign(logger, uuid, finding.Detail);
                return;
            }

            cards.Hold(uuid, CleanReason, CardState.Dirty, $"{instanceId} has left it, but {finding.Detail}");
            LogDirty(logger, uuid, instanceId, finding.Detail);
            foreach (var orphan in finding.Orphans)
            {
                processes.KillIfIn(orphan, container);
            }

            if (time.GetElapsedTime(since) >= AlarmAfter && (alarmed is null || time.GetElapsedTime(alarmed.Value) >= AlarmAfter))
            {
                alarmed = time.GetTimestamp();
                LogAlarm(logger, uuid, instanceId, (int)time.GetElapsedTime(since).TotalSeconds, finding.Detail);
            }

            await Task.Delay(pauseAfter(looks), time, cancellationToken);
        }
    }

    private void WatchSlices(CardSample sample, IReadOnlyList<OwnedProcess> owned, IReadOnlyList<CardHolder> living)
    {
        var size = cards.Cards.FirstOrDefault(card => card.Uuid == sample.Uuid)?.MemoryMiB ?? 0;
        var uses = CardAudit.UseOf(owned);
        foreach (var holder in living)
        {
            var slice = holder.Lease.Cards.Where(share => share.Uuid == sample.Uuid).Sum(share => share.MemoryMiB);
            var key = (sample.Uuid, holder.Lease.InstanceId);
            if (slice == 0 || slice >= size || !uses.TryGetValue(holder.Lease.InstanceId, out var used) || !CardAudit.IsOver(used, slice))
            {
                over.Remove(key);
                continue;
            }

            var (count, round) = over.GetValueOrDefault(key);
            if (round == sample.Round)
            {
                continue; // The same sample proves nothing twice.
            }

            over[key] = (++count, sample.Round);
            if (count >= 2)
            {
                over.Remove(key);
                LogOver(logger, holder.Lease.InstanceId, sample.Uuid, used, slice);
                holder.Condemn(new LaunchFailure(
                    RunOutcome.GpuOutOfMemory,
                    string.Create(CultureInfo.InvariantCulture, $"GpuMemoryExceeded: the instance used {used} MiB of GPU memory and has a part of {slice} MiB.")));
            }
        }

        foreach (var gone in over.Keys.Where(key => key.Uuid == sample.Uuid && living.All(holder => holder.Lease.InstanceId != key.Instance)).ToList())
        {
            over.Remove(gone);
        }
    }

    private void WatchStrangers(CardSample sample, IReadOnlyList<OwnedProcess> owned, IReadOnlyList<CardHolder> living)
    {
        var found = owned.Where(process => process.Owner == ProcessOwner.Foreign).Select(process => process.Process.Pid).ToList();
        if (found.Count == 0)
        {
            if (strangers.Remove(sample.Uuid))
            {
                LogForeignGone(logger, sample.Uuid);
            }

            // Their memory may outlive them for a moment.
            var held = living.SelectMany(holder => holder.Lease.Cards).Where(share => share.Uuid == sample.Uuid).Sum(share => share.MemoryMiB);
            if ((int)(sample.UsedBytes >> 20) <= CardAudit.IdleMiB + held + IdleOf(sample))
            {
                cards.Hold(sample.Uuid, ForeignReason, CardState.Ready, "");
            }

            if (!sample.UsedIsExact && held == 0 && sample.Processes.Count == 0)
            {
                NoteIdle(sample);
            }

            return;
        }

        // Twice in a row: a container that is just being made or removed is in one list before the other.
        var count = strangers[sample.Uuid] = strangers.GetValueOrDefault(sample.Uuid) + 1;
        if (count >= 2)
        {
            var detail = $"used by processes outside of the platform: {string.Join(", ", found)}";
            if (count == 2)
            {
                LogForeign(logger, sample.Uuid, detail);
            }

            cards.Hold(sample.Uuid, ForeignReason, CardState.Foreign, detail);
        }
    }

    private void OnFaulted(object? sender, CardFaultEventArgs fault)
    {
        var hit = holders().Where(holder => holder.Lease.Cards.Any(share => share.Uuid == fault.Uuid)).ToList();
        if (fault.Effect == HolderEffect.OwnFault)
        {
            CountFaults(fault, hit);
            return;
        }

        var ended = fault.Effect switch
        {
            HolderEffect.EndAll => hit,
            HolderEffect.EndGangs => hit.Where(holder => holder.Lease.Cards.Select(share => share.Uuid).Distinct(StringComparer.Ordinal).Skip(1).Any()).ToList(),
            HolderEffect.EndSoleHolder when hit.Count == 1 => hit,
            _ => [],
        };
        foreach (var holder in ended)
        {
            LogEnded(logger, holder.Lease.InstanceId, fault.Message);
            holder.Condemn(new LaunchFailure(RunOutcome.GpuFault, fault.Message));
        }
    }

    private void CountFaults(CardFaultEventArgs fault, List<CardHolder> hit)
    {
        var now = time.GetUtcNow();
        int count;
        lock (gate)
        {
            if (!faults.TryGetValue(fault.Uuid, out var seen))
            {
                faults[fault.Uuid] = seen = [];
            }

            foreach (var holder in hit)
            {
                seen.RemoveAll(entry => entry.Instance == holder.Lease.InstanceId);
                seen.Add((holder.Lease.InstanceId, now));
            }

            seen.RemoveAll(entry => now - entry.At > FaultMemory);
            count = seen.Count;
        }

        if (count >= FaultsToDrain)
        {
            cards.Hold(fault.Uuid, FaultReason, CardState.Draining, $"programs of {count} instances failed on it within an hour; the last: {fault.Message}");
        }
    }

    /// <summary>Lifts what time alone lifts.</summary>
    private void Forgive()
    {
        List<(string Uuid, string Reason)> over = [];
        lock (gate)
        {
            var now = time.GetUtcNow();
            foreach (var (uuid, seen) in faults.ToList())
            {
                seen.RemoveAll(entry => now - entry.At > FaultMemory);
                if (seen.Count == 0)
                {
                    faults.Remove(uuid);
                    over.Add((uuid, FaultReason));
                }
            }

            foreach (var (uuid, entry) in handOvers.ToList())
            {
                if (time.GetElapsedTime(entry.Last) > HandOverPause)
                {
                    handOvers.Remove(uuid);
                    over.Add((uuid, HandOverReason));
                }
            }
        }

        foreach (var (uuid, reason) in over)
        {
            cards.Hold(uuid, reason, CardState.Ready, "");
        }
    }

    private List<OwnedProcess> OwnersOf(CardSample sample, Dictionary<string, string> containers, string ending) =>
    [
        .. sample.Processes.Select(process => processes.ContainerOf(process.Pid) switch
        {
            null => new OwnedProcess(process, ProcessOwner.Unseen),
            { Length: > 0 } id when id == ending => new OwnedProcess(process, ProcessOwner.Ending),
            { Length: > 0 } id when containers.TryGetValue(id, out var instance) => new OwnedProcess(process, ProcessOwner.Instance, instance),
            _ => new OwnedProcess(process, ProcessOwner.Foreign),
        }),
    ];

    private async Task<Dictionary<string, string>> ContainersAsync(CancellationToken cancellationToken) =>
        (await engine.ListAsync(Labels.Node, node, cancellationToken)).ToDictionary(container => container.Id, container => container.Name, StringComparer.Ordinal);

    // Older drivers count what they need themselves as used; the least that was ever seen on the idle card is that.
    private int IdleOf(CardSample sample)
    {
        lock (gate)
        {
            return sample.UsedIsExact ? 0 : idleMiB.GetValueOrDefault(sample.Uuid, 1_024);
        }
    }

    private void NoteIdle(CardSample sample)
    {
        lock (gate)
        {
            idleMiB[sample.Uuid] = Math.Min(idleMiB.GetValueOrDefault(sample.Uuid, 1_024), (int)(sample.UsedBytes >> 20));
        }
    }
}
