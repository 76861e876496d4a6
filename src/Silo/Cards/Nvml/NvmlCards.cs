using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using GpuTasks.Nodes;

namespace GpuTasks.Cards.Nvml;

/// <summary>
/// Cards as the driver shows them. One thread samples, one hears events, and a timer watches over both: a call that
/// never returns costs its card, not the others and not the process.
/// </summary>
internal sealed partial class NvmlCards : ICardSource, IDisposable
{
    private static readonly TimeSpan EventWait = TimeSpan.FromSeconds(1);
    private readonly Lock gate = new();
    private readonly NvmlSettings settings;
    private readonly CardTypes types;
    private readonly TimeProvider time;
    private readonly ILogger logger;
    private readonly ITimer watch;
    private readonly object bell = new();
    private bool rung;
    private readonly Dictionary<string, CardSample> samples = new(StringComparer.Ordinal);
    private readonly Dictionary<string, CardHealth> health = new(StringComparer.Ordinal);
    private readonly List<string> order = [];
    private readonly HashSet<string> missing = new(StringComparer.Ordinal);
    private readonly Dictionary<(string Uuid, string Reason), (CardState State, string Detail)> holds = [];
    private readonly Dictionary<int, (string Function, long Since)> hung = [];
    private readonly TaskCompletionSource first = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private TaskCompletionSource published = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Session? session;
    private Sampler sampler;
    private long round;
    private long? lastGood;
    private string sessionFault = "The driver has not been asked yet.";
    private string eventFault = "";
    private string stuck = "";
    private List<string> sampleFacts = [];
    private List<CardReport> reports = [];
    private List<string> facts = [];
    private volatile bool disposed;

    /// <summary>Begins to read at once, on threads of its own.</summary>
    public NvmlCards(NvmlSettings settings, TimeProvider time, ILogger<NvmlCards> logger)
    {
        this.settings = settings;
        this.time = time;
        this.logger = logger;
        types = new CardTypes(settings.CardTypes);
        sampler = new Sampler();
        StartSampler(sampler);
        var period = TimeSpan.FromMilliseconds(Math.Clamp(settings.HangAfter.TotalMilliseconds / 4, 20, 1_000));
        watch = time.CreateTimer(_ => Watch(), null, period, period);
    }

    /// <inheritdoc />
    public event EventHandler? Changed;

    /// <inheritdoc />
    public event EventHandler<CardFaultEventArgs>? Faulted;

    /// <inheritdoc />
    public IReadOnlyList<CardReport> Cards
    {
        get
        {
            lock (gate)
            {
                return reports;
            }
        }
    }

    /// <inheritdoc />
    public IReadOnlyList<string> Facts
    {
        get
        {
            lock (gate)
            {
                return facts;
            }
        }
    }

    /// <summary>Ends the threads; one that hangs inside the driver is left to the end of the process.</summary>
    public void Dispose()
    {
        if (disposed)
        {
            return;
        }

        disposed = true;
        watch.Dispose();
        SampleSoon();
        Session? last;
        Thread? thread;
        lock (gate)
        {
            last = session;
            session = null;
            thread = sampler.Thread;
        }

        if ((thread is null || thread == Thread.CurrentThread || thread.Join(TimeSpan.FromSeconds(3))) && last is not null)
        {
            last.Close(leak: false);
        }
    }

    /// <summary>Waits until the driver has been read once, or has been found away.</summary>
    public bool WaitForFirst(TimeSpan wait) => first.Task.Wait(wait);

    /// <inheritdoc />
    public CardSample? SampleOf(string uuid)
    {
        lock (gate)
        {
            return samples.GetValueOrDefault(uuid);
        }
    }

    /// <inheritdoc />
    public async Task<CardSample?> SampleNowAsync(string uuid, CancellationToken cancellationToken)
    {
        long asked;
        lock (gate)
        {
            asked = round; // A round that is under way may have read the card already.
        }

        var since = time.GetTimestamp();
        while (true)
        {
            Task next;
            lock (gate)
            {
                next = published.Task;
                if (samples.TryGetValue(uuid, out var sample) && sample.Round > asked && sample.Health == NvmlReturn.Success)
                {
                    return sample;
                }
            }

            var left = settings.HangAfter - time.GetElapsedTime(since);
            if (left <= TimeSpan.Zero)
            {
                return null;
            }

            SampleSoon();
            try
            {
                await next.WaitAsync(left, time, cancellationToken);
            }
            catch (TimeoutException)
            {
                return null;
            }
        }
    }

    /// <inheritdoc />
    public void Hold(string uuid, string reason, CardState state, string detail)
    {
        bool changed;
        lock (gate)
        {
            if (state == CardState.Ready)
            {
                holds.Remove((uuid, reason));
            }
            else
            {
                holds[(uuid, reason)] = (state, detail);
            }

            changed = Rebuild();
        }

        Tell(changed);
    }

    private void SampleSoon()
    {
        lock (bell)
        {
            rung = true;
            Monitor.PulseAll(bell);
        }
    }

    private void StartSampler(Sampler next)
    {
        next.Thread = new Thread(() => SampleLoop(next)) { IsBackground = true, Name = "nvml samples" };
        next.Thread.Start();
    }

    private void SampleLoop(Sampler me)
    {
        NvmlLibrary.Watch(me.Progress);
        while (!disposed)
        {
            me.BusySince = time.GetTimestamp();
            var pause = settings.SamplePeriod;
            try
            {
                if (!SampleOnce(me))
                {
                    pause = settings.RetryPeriod;
                }
            }
            catch (Exception e)
            {
                // Nothing here may end the reading for good.
                LogSampleFailed(logger, e);
                pause = settings.RetryPeriod;
            }

            me.BusySince = null;
            bool left;
            lock (gate)
            {
                left = sampler != me;
                if (left)
                {
                    // The call came back after all; from now on the other thread reads this card too.
                    hung.Remove(me.HungCard);
                }
            }

            if (left)
            {
                LogHungReturned(logger, me.HungCard);
                return;
            }

            lock (bell)
            {
                if (!rung)
                {
                    Monitor.Wait(bell, pause);
                }

                rung = false;
            }
        }
    }

    /// <summary>One look at everything.</summary>
    /// <returns>False when the driver is away and is better left alone for a while.</returns>
    private bool SampleOnce(Sampler me)
    {
        if (OpenSession(me.Progress) is not { } current)
        {
            return false;
        }

        long number;
        HashSet<uint> skip;
        lock (gate)
        {
            number = ++round;
            skip = [.. hung.Keys.Select(index => (uint)index)];
        }

        var code = current.Reader.Read(skip.Contains, me.Progress, out var cards, out var found);
        if (code != NvmlReturn.Success)
        {
            EndSession(current, NvmlReturns.NodeFact(code));
            return false;
        }

        var faults = new List<CardFaultEventArgs>();
        bool changed;
        lock (gate)
        {
            if (sampler != me)
            {
                return true; // What was read before it hung is older than what the others have read since.
            }

            sampleFacts = found;
            lastGood = time.GetTimestamp();
            stuck = "";
            foreach (var card in cards)
            {
                if (!samples.ContainsKey(card.Uuid))
                {
                    order.Add(card.Uuid);
                }

                samples[card.Uuid] = card with { Round = number };
                var before = health.GetValueOrDefault(card.Uuid) ?? new CardHealth();
                var (next, effect) = before.Apply(card);
                health[card.Uuid] = next;
                if (effect != HolderEffect.None)
                {
                    faults.Add(new CardFaultEventArgs(card.Uuid, effect, $"Card {card.Uuid} has failed: {next.Detail}."));
                }
            }

            var seen = cards.Select(card => card.Uuid).ToHashSet(StringComparer.Ordinal);
            missing.Clear();
            missing.UnionWith(order.Where(uuid => !seen.Contains(uuid) && !hung.ContainsKey(samples[uuid].Index)));
            changed = Rebuild();
            Publish();
        }

        Tell(changed);
        foreach (var fault in faults)
        {
            LogFault(logger, fault.Uuid, fault.Message);
            Faulted?.Invoke(this, fault);
        }

        return true;
    }

    [SuppressMessage("Reliability", "CA2000", Justification = "The session owns the library until it is closed.")]
    private Session? OpenSession(NvmlProgress progress)
    {
        lock (gate)
        {
            if (session is { Broken: false } open)
            {
                return open;
            }
        }

        Session? old;
        lock (gate)
        {
            (old, session) = (session, null);
        }

        old?.Close(leak: AnyHung());
        if (NvmlLibrary.TryLoad(settings.LibraryPath, out var fault) is not { } library)
        {
            Away($"The driver's library {settings.LibraryPath} is {fault}: this node has no cards from it.");
            return null;
        }

        progress.Card = -1;
        var code = library.Init();
        if (code != NvmlReturn.Success)
        {
            library.Dispose();
            Away(NvmlReturns.NodeFact(code));
            return null;
        }

        library.GetDriverVersion(out var driver);
        library.GetCudaVersion(out var cuda);
        var opened = new Session(library, new NvmlReader(library, time), driver, string.Create(CultureInfo.InvariantCulture, $"{cuda / 1_000}.{cuda % 1_000 / 10}"));
        opened.Reader.ReadLinks(progress);
        lock (gate)
        {
            session = opened;
            sessionFault = "";
            eventFault = "";
        }

        opened.Events = new Thread(() => EventLoop(opened)) { IsBackground = true, Name = "nvml events" };
        opened.Events.Start();
        LogDriver(logger, driver, opened.Cuda);
        return opened;
    }

    private void Away(string fault)
    {
        bool changed;
        lock (gate)
        {
            if (sessionFault != fault)
            {
                LogAway(logger, fault);
            }

            sessionFault = fault;
            round++;
            stuck = "";
            changed = Rebuild();
            Publish();
        }

        Tell(changed);
    }

    private void EndSession(Session broken, string fault)
    {
        broken.Broken = true;
        Away(fault);
    }

    private bool AnyHung()
    {
        lock (gate)
        {
            return hung.Count > 0;
        }
    }

    private void EventLoop(Session mine)
    {
        var library = mine.Library;
        var code = library.CreateEventSet(out var set);
        if (code != NvmlReturn.Success)
        {
            // Samples still show what the driver wants done; only single fault numbers stay unseen.
            lock (gate)
            {
                mine.EventFact = $"Faults are not told by this driver (error {(int)code}); they show in samples alone.";
            }

            return;
        }

        var names = new Dictionary<nint, string>();
        if (library.GetCount(out var count) == NvmlReturn.Success)
        {
            for (var index = 0u; index < count; index++)
            {
                if (library.GetHandle(index, out var device) == NvmlReturn.Success && library.GetUuid(device, out var uuid) == NvmlReturn.Success)
                {
                    names[device] = uuid;
                    if (library.GetSupportedEvents(device, out var can) == NvmlReturn.Success)
                    {
                        library.RegisterEvents(device, can & (NvmlEvent.Xid | NvmlEvent.DoubleBitEcc | NvmlEvent.RecoveryActionChanged), set);
                    }
                }
            }
        }

        while (!disposed && !mine.Broken)
        {
            code = library.WaitForEvent(set, EventWait < settings.SamplePeriod ? EventWait : settings.SamplePeriod, out var happened);
            if (code == NvmlReturn.Timeout)
            {
                continue;
            }

            if (code != NvmlReturn.Success)
            {
                bool changed;
                lock (gate)
                {
                    eventFault = $"the driver no longer tells of faults (error {(int)code}); it is opened anew";
                    changed = Rebuild();
                }

                LogEventsFailed(logger, code);
                Tell(changed);
                // Closing hands the session back to the sampling thread; a pause keeps a lasting fault from spinning.
                Thread.Sleep(settings.RetryPeriod);
                mine.Broken = true;
                SampleSoon();
                break;
            }

            Hear(names.GetValueOrDefault(happened.Device) ?? "", happened);
        }

        library.FreeEventSet(set);
    }

    private void Hear(string uuid, NvmlEvent happened)
    {
        if (happened.Type == NvmlEvent.RecoveryActionChanged)
        {
            SampleSoon();
            return;
        }

        var xid = happened.Type == NvmlEvent.DoubleBitEcc ? 48 : happened.Data;
        var faults = new List<CardFaultEventArgs>();
        bool changed;
        lock (gate)
        {
            var now = time.GetUtcNow();
            // A part of a card falls with the whole.
            foreach (var part in order.Where(id => id == uuid || (uuid.Length > 0 && samples[id].Parent == uuid)).ToList())
            {
                var (next, rule) = (health.GetValueOrDefault(part) ?? new CardHealth()).Apply(xid, now);
                health[part] = next;
                LogXid(logger, part, xid, rule.Meaning);
                if (rule.Holders != HolderEffect.None)
                {
                    faults.Add(new CardFaultEventArgs(part, rule.Holders, $"Xid {xid} on card {part}: {rule.Meaning}."));
                }

                if (rule.DrainsNode)
                {
                    foreach (var other in order.Where(id => id != part && samples[id].Parent != uuid))
                    {
                        health[other] = (health.GetValueOrDefault(other) ?? new CardHealth())
                            .Latch(CardState.Draining, $"the machine must be restarted for card {part}", now);
                    }
                }
            }

            changed = Rebuild();
        }

        Tell(changed);
        foreach (var fault in faults)
        {
            Faulted?.Invoke(this, fault);
        }

        SampleSoon(); // The driver's own verdict comes with the next sample.
    }

    /// <summary>Looks whether a thread hangs inside the driver, and how old the measurements are.</summary>
    private void Watch()
    {
        bool changed;
        lock (gate)
        {
            if (disposed)
            {
                return;
            }

            if (sampler.BusySince is { } since && time.GetElapsedTime(since) > settings.HangAfter)
            {
                var (card, function) = (sampler.Progress.Card, sampler.Progress.Function);
                if (card >= 0 && session is { Broken: false })
                {
                    LogHung(logger, card, function);
                    hung[card] = (function, since);
                    sampler.HungCard = card;
                    sampler = new Sampler(); // The others go on being read.
                    StartSampler(sampler);
                }
                else if (stuck.Length == 0)
                {
                    // Nobody can be read past this; a second thread would hang in the same place.
                    LogStuck(logger, function);
                    stuck = $"{function} has not returned for {(int)time.GetElapsedTime(since).TotalSeconds} s";
                }
            }

            changed = Rebuild();
        }

        Tell(changed);
    }

    /// <summary>Puts together what others see; true if more than measurements changed. To be called within the lock.</summary>
    private bool Rebuild()
    {
        var now = time.GetUtcNow();
        var staleAfter = settings.HangAfter + (2 * settings.SamplePeriod);
        var next = order.ConvertAll(uuid =>
        {
            var sample = samples[uuid];
            var mine = health.GetValueOrDefault(uuid) ?? new CardHealth();
            var (state, detail) = (mine.State, mine.Detail);
            void Weigh(CardState other, string why)
            {
                if (CardHealth.Worse(state, other) != state || detail.Length == 0)
                {
                    detail = why;
                }

                state = CardHealth.Worse(state, other);
            }

            foreach (var (_, hold) in holds.Where(hold => hold.Key.Uuid == uuid))
            {
                Weigh(hold.State, hold.Detail);
            }

            var inside = hung.TryGetValue(sample.Index, out var call);
            if (inside)
            {
                Weigh(CardState.Suspect, $"the driver's {call.Function} does not return");
            }
            else if (missing.Contains(uuid))
            {
                Weigh(CardState.Failed, "the driver no longer finds it");
            }

            foreach (var common in new[] { sessionFault, stuck, eventFault })
            {
                if (common.Length > 0)
                {
                    Weigh(CardState.Suspect, common);
                }
            }

            var stale = inside || stuck.Length > 0 || missing.Contains(uuid) || lastGood is null || time.GetElapsedTime(lastGood.Value) > staleAfter;
            var type = types.Of(sample.Name, (int)(sample.TotalBytes >> 20));
            return new CardReport
            {
                Uuid = uuid,
                Type = type,
                Name = sample.Name,
                MemoryMiB = CardTypes.LeasedAsMiB(type, sample.LeasableMiB),
                PhysicalMemoryMiB = sample.LeasableMiB,
                State = state,
                Detail = detail,
                TemperatureCelsius = sample.TemperatureCelsius,
                UtilizationPercent = sample.UtilizationPercent,
                PowerWatts = sample.PowerWatts,
                UsedMemoryMiB = (int)(sample.UsedBytes >> 20),
                SampledAt = sample.At,
                Stale = stale,
                NumaNode = sample.NumaNode,
                LinkGroup = sample.LinkGroup,
                Parent = sample.Parent,
                Enforcement = sample.Parent.Length > 0 ? MemoryEnforcement.Hardware : MemoryEnforcement.Watched,
                UncorrectedErrors = (long?)sample.UncorrectedErrors,
            };
        });

        var told = new List<string>();
        if (session is { } open)
        {
            told.Add($"NVIDIA driver {open.Driver}, CUDA {open.Cuda}.");
            if (open.EventFact.Length > 0)
            {
                told.Add(open.EventFact);
            }
        }

        told.AddRange(new[] { sessionFault, stuck.Length > 0 ? $"The driver hangs: {stuck}." : "", eventFault.Length > 0 ? $"All cards are suspect: {eventFault}." : "" }.Where(text => text.Length > 0));
        told.AddRange(hung.Select(pair => $"The driver hangs in {pair.Value.Function} of card {pair.Key}."));
        told.AddRange(sampleFacts);

        var changed = next.Count != reports.Count
            || !told.SequenceEqual(facts)
            || next.Zip(reports).Any(pair => (pair.First.Uuid, pair.First.State, pair.First.Detail, pair.First.Stale, pair.First.MemoryMiB) != (pair.Second.Uuid, pair.Second.State, pair.Second.Detail, pair.Second.Stale, pair.Second.MemoryMiB));
        reports = next;
        facts = told;
        return changed;
    }

    private void Publish()
    {
        first.TrySetResult();
        var done = published;
        published = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        done.SetResult();
    }

    private void Tell(bool changed)
    {
        if (changed && !disposed)
        {
            Changed?.Invoke(this, EventArgs.Empty);
        }
    }

    /// <summary>A thread that reads, and how far it is.</summary>
    private sealed class Sampler
    {
        private long busySince = long.MinValue;

        public NvmlProgress Progress { get; } = new();

        public Thread? Thread { get; set; }

        public int HungCard { get; set; } = -1;

        /// <summary>Since when it has been inside the driver; null while it pauses.</summary>
        public long? BusySince
        {
            get => Interlocked.Read(ref busySince) is var since && since != long.MinValue ? since : null;
            set => Interlocked.Exchange(ref busySince, value ?? long.MinValue);
        }
    }

    /// <summary>The time from opening the library to closing it.</summary>
    private sealed class Session(NvmlLibrary library, NvmlReader reader, string driver, string cuda)
    {
        private volatile bool broken;

        public NvmlLibrary Library { get; } = library;

        public NvmlReader Reader { get; } = reader;

        public string Driver { get; } = driver;

        public string Cuda { get; } = cuda;

        public Thread? Events { get; set; }

        public string EventFact { get; set; } = "";

        public bool Broken
        {
            get => broken;
            set => broken = value;
        }

        /// <summary>Closes the library, or leaves it loaded when a thread may still be inside: unloading it then would end the process.</summary>
        public void Close(bool leak)
        {
            Broken = true;
            var quiet = Events is null || Events == Thread.CurrentThread || Events.Join(TimeSpan.FromSeconds(3));
            if (quiet && !leak)
            {
                Library.Shutdown();
                Library.Dispose();
            }
        }
    }
}
