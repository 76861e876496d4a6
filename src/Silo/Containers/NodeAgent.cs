using System.Collections.Concurrent;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using GpuTasks.Cards;
using GpuTasks.Nodes;
using GpuTasks.Tasks;
using Microsoft.Extensions.Options;

namespace GpuTasks.Containers;

/// <summary>
/// Owns the node's containers and cards: takes orders, keeps what they led to in step with what the region says, and
/// tells everybody what truly is. It may be killed at any moment; the next one goes on from disk and engine.
/// </summary>
internal sealed partial class NodeAgent : BackgroundService, INodeAgent
{
    private static readonly Version LeastApi = new(1, 41);
    private const int GoneRepeats = 3;
    private static readonly TimeSpan LongestWait = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan SilentRelayWait = TimeSpan.FromSeconds(1);

    /// <summary>So that what hundreds of runs a second change is told together. That a slot is free is told apart, and at once.</summary>
    private static readonly TimeSpan TellPause = TimeSpan.FromMilliseconds(50);

    private static readonly TimeSpan LogTrimPeriod = TimeSpan.FromMinutes(10);
    private readonly NodeOptions options;
    private readonly IContainerEngine engine;
    private readonly INodeReports reports;
    private readonly ICardSource cards;
    private readonly TimeProvider time;

    /// <summary>For patience with others. How long the region was not heard of is measured by <see cref="time"/>: it may have given the node up.</summary>
    private readonly AwakeClock awake;
    private readonly ILogger<NodeAgent> logger;
    private readonly string bootId;
    private readonly string instancesFolder;
    private readonly SemaphoreSlim launches = new(1, 1);
    private readonly SemaphoreSlim starts;
    private readonly SemaphoreSlim reportNow = new(0, 1);
    private readonly TaskCompletionSource loaded = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource<EngineInfo> engineInfo = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly ConcurrentDictionary<string, Instance> instances = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<Instance, int> gone = new();
    private readonly ConcurrentDictionary<string, Task> releases = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<string, long> unusedLeases = new(StringComparer.Ordinal);
    private readonly Dictionary<string, long> orphans = new(StringComparer.Ordinal);
    private readonly CardGuard guard;
    private NodeLedger ledger = null!;
    private ImageStore? images;
    private RunLogs logs = null!;
    private SyncAnswers answers = null!;
    private UnclaimedRuns unclaimed = null!;
    private InstanceServices services = null!;
    private CancellationToken stopping;
    private int diskMiB;
    private volatile bool adopted;

    /// <summary>Set while the region knows a lower number than this node: then its store was set back to an earlier time.</summary>
    private volatile bool storeIsBehind;
    private string? setBack;

    /// <summary>When the last report was sent that the region has confirmed; 0 before the first.</summary>
    private long contactAt;

    public NodeAgent(IOptions<NodeOptions> options, IContainerEngine engine, INodeReports reports, ICardSource cards, TimeProvider time, ILogger<NodeAgent> logger)
    {
        this.options = options.Value;
        this.engine = engine;
        this.reports = reports;
        this.cards = cards;
        this.time = time;
        awake = new AwakeClock(time);
        this.logger = logger;
        bootId = Machine.BootId();
        guard = new CardGuard(cards, engine, this.options.Name, time, logger, () => instances.Values
            .Where(instance => instance.HoldsCards && instance.Order.Lease.Cards.Count > 0)
            .Select(instance => new CardHolder(instance.Order.Lease, instance.Condemn)));
        instancesFolder = Path.Combine(this.options.DataDirectory, "instances");
        var startsAtOnce = this.options.ConcurrentStarts > 0 ? this.options.ConcurrentStarts : Environment.ProcessorCount;
        starts = new SemaphoreSlim(startsAtOnce, startsAtOnce);
    }

    /// <summary>Instances that are not over, for tests.</summary>
    internal IReadOnlyCollection<string> InstanceIds => [.. instances.Keys];

    /// <inheritdoc />
    public override void Dispose()
    {
        foreach (var instance in instances.Values)
        {
            instance.Dispose();
        }

        guard.Dispose();
        images?.Dispose();
        launches.Dispose();
        starts.Dispose();
        reportNow.Dispose();
        awake.Dispose();
        base.Dispose();
    }

    /// <inheritdoc />
    public async Task<LaunchOutcome> LaunchAsync(LaunchOrder order, CancellationToken cancellationToken)
    {
        var lease = order.Lease;
        if (!SafeName.IsValid(lease.InstanceId, 63) || !SafeName.IsValid(lease.Account, 128) || !SafeName.IsValid(lease.Function, 160))
        {
            throw new ArgumentException($"Lease '{lease.InstanceId}' of '{lease.Account}/{lease.Function}' has names that cannot be used for a container.", nameof(order));
        }

        // Before the region has confirmed a report nobody can say how long the node has been out of contact.
        if (!adopted || Interlocked.Read(ref contactAt) == 0)
        {
            return LaunchOutcome.Busy;
        }

        await launches.WaitAsync(cancellationToken);
        try
        {
            stopping.ThrowIfCancellationRequested();
            if (instances.ContainsKey(lease.InstanceId))
            {
                return LaunchOutcome.Accepted;
            }

            if (lease.Node != options.Name || Fencing.IsStale(ledger.State, lease))
            {
                LogStale(logger, lease.InstanceId, lease.NodeEpoch, ledger.State.NodeEpoch);
                return LaunchOutcome.StaleLease;
            }

            if (CardShares.Refuse(lease, cards.Cards, instances.Values.Where(instance => instance.HoldsCards).Select(instance => instance.Order.Lease)) is { } reason)
            {
                LogNoRoom(logger, lease.InstanceId, reason);
                unusedLeases[lease.InstanceId] = awake.GetTimestamp(); // Somebody does want it.
                return LaunchOutcome.Busy;
            }

            var instance = Instance.Create(services, new InstanceFolder(instancesFolder, lease.InstanceId), order);
            instances[lease.InstanceId] = instance;
            instance.Begin(stopping);
        }
        finally
        {
            launches.Release();
        }

        ReportSoon();
        return LaunchOutcome.Accepted;
    }

    /// <inheritdoc />
    public async Task StopInstanceAsync(string instanceId, bool force, CancellationToken cancellationToken)
    {
        await loaded.Task.WaitAsync(cancellationToken);
        await launches.WaitAsync(cancellationToken);
        try
        {
            if (instances.TryGetValue(instanceId, out var instance))
            {
                instance.RequestStop(force, "its dispatcher asked for it");
                return;
            }

            // Noted before it is given back: a launch that is still on its way must find the door closed.
            ledger.Change(state => Fencing.End(state, instanceId, time.GetUtcNow()));
        }
        finally
        {
            launches.Release();
        }

        ReleaseInBackground(instanceId);
    }

    /// <inheritdoc />
    public async Task<StartRunOutcome> StartRunAsync(RunOrder order, CancellationToken cancellationToken)
    {
        if (!SafeName.IsValid(order.RunId, 200))
        {
            throw new ArgumentException($"'{order.RunId}' cannot be a run id.", nameof(order));
        }

        await loaded.Task.WaitAsync(cancellationToken);
        if (order.Task is { } task && instances.Values.FirstOrDefault(other => other.Id != order.InstanceId && other.HasRun(order.RunId, task)) is { } holder)
        {
            // The store was set back to before it gave this run to the other one. Its task is told, and orders nothing from this one then.
            Notify(() => holder.TakeUpAsync(stopping));
            throw new TimeoutException($"Run '{order.RunId}' is on instance '{holder.Id}' already, and its task is being told so.");
        }

        try
        {
            return instances.TryGetValue(order.InstanceId, out var instance)
                ? await instance.StartRunAsync(order, cancellationToken)
                : StartRunOutcome.InstanceGone;
        }
        catch (ObjectDisposedException)
        {
            return StartRunOutcome.InstanceGone; // It went at this very moment.
        }
    }

    /// <inheritdoc />
    public async Task<bool> CancelRunAsync(string instanceId, string runId, CancellationToken cancellationToken)
    {
        await loaded.Task.WaitAsync(cancellationToken);
        try
        {
            return instances.TryGetValue(instanceId, out var instance) && await instance.CancelRunAsync(runId, cancellationToken);
        }
        catch (ObjectDisposedException)
        {
            return false; // It went at this very moment, and every run of it was reported before.
        }
    }

    /// <inheritdoc />
    public async Task<RunReport?> AwaitRunAsync(string runId, TimeSpan wait, CancellationToken cancellationToken)
    {
        await loaded.Task.WaitAsync(cancellationToken);
        return await answers.AwaitAsync(runId, Limited(wait), cancellationToken);
    }

    /// <inheritdoc />
    public async Task<AnswerPart> ReadAnswerAsync(string instanceId, string runId, long from, TimeSpan wait, CancellationToken cancellationToken)
    {
        await loaded.Task.WaitAsync(cancellationToken);
        wait = Limited(wait);
        try
        {
            if (SafeName.IsValid(runId, 200)
                && instances.TryGetValue(instanceId, out var instance)
                && await instance.ReadAnswerAsync(runId, from, wait, cancellationToken) is { } part)
            {
                return part;
            }
        }
        catch (Exception e) when (e is RelayException or ObjectDisposedException)
        {
            // Its container may be ending: then the run's end is told before long, and else it is asked again.
            wait = wait < SilentRelayWait ? wait : SilentRelayWait;
        }

        return new AnswerPart { Report = await answers.AwaitAsync(runId, wait, cancellationToken) };
    }

    /// <inheritdoc />
    public async Task<BodyReceipt> SendBodyAsync(string instanceId, string runId, BodyPart part, TimeSpan wait, CancellationToken cancellationToken)
    {
        await loaded.Task.WaitAsync(cancellationToken);
        try
        {
            return SafeName.IsValid(runId, 200)
                && instances.TryGetValue(instanceId, out var instance)
                && await instance.SendBodyAsync(runId, part, Limited(wait), cancellationToken) is { } receipt
                ? receipt
                : new BodyReceipt(part.From, Closed: true);
        }
        catch (RelayException e)
        {
            throw new TimeoutException($"Instance '{instanceId}' did not confirm a part of the body of run '{runId}': {e.Message} Send it again.");
        }
        catch (ObjectDisposedException)
        {
            return new BodyReceipt(part.From, Closed: true);
        }
    }

    /// <inheritdoc />
    public async Task<LogChunk?> ReadLogAsync(TaskKey task, int attempt, long cursor, int limit, CancellationToken cancellationToken)
    {
        await loaded.Task.WaitAsync(cancellationToken);
        cursor = Math.Clamp(cursor, 0, long.MaxValue / 4);
        limit = Math.Clamp(limit, 1, 1 << 20);
        var runId = string.Create(CultureInfo.InvariantCulture, $"{task.TaskId}.{attempt}");
        foreach (var instance in instances.Values)
        {
            if (instance.ReadLog(runId, task, cursor, limit) is { } chunk)
            {
                return chunk;
            }
        }

        return logs.Read(task, attempt, cursor, limit);
    }

    /// <inheritdoc />
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        await Task.Yield(); // Nothing below may hold the host's start.
        using var all = CancellationTokenSource.CreateLinkedTokenSource(stoppingToken);
        stopping = all.Token;
        try
        {
            Load();
            loaded.SetResult();
        }
        catch (Exception e)
        {
            loaded.SetException(e);
            throw;
        }

        cards.Changed += OnCardsChanged;
        try
        {
            var loops = new List<Task>
            {
                RepeatAsync("report", ReportAsync, options.ReportPeriod, reportNow, all.Token),
                RepeatAsync("card check", guard.CheckAsync, options.CardSamplePeriod, null, stoppingToken),
                RepeatAsync("heartbeat", HeartbeatAsync, options.ReportPeriod, null, all.Token),
                KeepHouseAsync(all.Token),
            };
            await await Task.WhenAny(loops); // None ends before the node does, but for an engine that is refused.
            await Task.WhenAll(loops);
        }
        finally
        {
            await all.CancelAsync();
            cards.Changed -= OnCardsChanged;
            await Task.WhenAll(instances.Values.Select(instance => instance.Life).Concat(releases.Values));
        }
    }

    /// <summary>Reads what an earlier agent left and lets every instance go on from where it was.</summary>
    [SuppressMessage("Reliability", "CA2000", Justification = "The agent owns every instance in its table.")]
    private void Load()
    {
        Directory.CreateDirectory(options.DataDirectory);
        DiskFiles.MakeFolder(instancesFolder, DiskFiles.PrivateFolder);
        ledger = new NodeLedger(options.DataDirectory);
        logs = new RunLogs(options.DataDirectory, (long)options.LogStoreMiB << 20, options.LogRetention);
        answers = new SyncAnswers(options.DataDirectory, time);
        images = new ImageStore(engine, options.DataDirectory, options.ImagePullTimeout, time, logger);
        unclaimed = new UnclaimedRuns(options.DataDirectory);
        diskMiB = options.DiskMiB ?? Machine.FreeDiskMiB(options.DataDirectory);
        services = new InstanceServices
        {
            Options = options,
            Engine = engine,
            Images = images,
            Reports = reports,
            Cards = cards,
            Guard = guard,
            Ledger = ledger,
            Logs = logs,
            Answers = answers,
            Unclaimed = unclaimed,
            Time = awake,
            Logger = logger,
            BootId = bootId,
            ContactAge = () => time.GetElapsedTime(Interlocked.Read(ref contactAt)),
            Starts = starts,
            EngineInfo = engineInfo.Task,
            Notify = Notify,
            InstanceChanged = OnInstanceChanged,
            RunsChanged = TellSoon,
            ReleaseAsync = ReleaseAsync,
        };

        if (options.Cpus > Environment.ProcessorCount || options.MemoryMiB > Machine.MemoryMiB())
        {
            LogClaims(logger, CpuMilli / 1_000.0, MemoryMiB, Environment.ProcessorCount, Machine.MemoryMiB());
        }

        foreach (var path in Directory.EnumerateDirectories(instancesFolder))
        {
            var folder = new InstanceFolder(instancesFolder, Path.GetFileName(path));
            if (Instance.Adopt(services, folder) is not { } instance)
            {
                // Never accepted, so nobody was promised anything, and no container was made before its order was on disk.
                folder.Delete();
                continue;
            }

            LogAdopting(logger, instance.Id, instance.Order.Lease.Account, instance.Order.Lease.Function);
            instances[instance.Id] = instance;
        }

        foreach (var instance in instances.Values)
        {
            instance.Begin(stopping);
        }
    }

    private static TimeSpan Limited(TimeSpan wait) => wait < TimeSpan.Zero ? TimeSpan.Zero : wait < LongestWait ? wait : LongestWait;

    private int CpuMilli => (int)Math.Round((options.Cpus ?? Environment.ProcessorCount) * 1_000);

    private int MemoryMiB => options.MemoryMiB ?? Machine.MemoryMiB();

    /// <summary>Meets the engine, adopts, then sweeps for good.</summary>
    private async Task KeepHouseAsync(CancellationToken stoppingToken)
    {
        while (true)
        {
            try
            {
                var info = await engine.GetInfoAsync(stoppingToken);
                Accept(info);
                await SweepAsync(stoppingToken);
                engineInfo.TrySetResult(info);
                break;
            }
            catch (EngineException e)
            {
                LogEngineAway(logger, options.DockerHost, e.Message);
            }
            catch (OperationCanceledException)
            {
                return;
            }

            await DelayAsync(TimeSpan.FromSeconds(1), stoppingToken);
        }

        adopted = true;
        LogAdopted(logger, options.Name, instances.Count);
        ReportSoon();
        await RepeatAsync("sweep", SweepAsync, options.SweepPeriod, null, stoppingToken);
    }

    /// <summary>Checks that the engine can be trusted with this.</summary>
    /// <exception cref="InvalidOperationException">It cannot.</exception>
    private void Accept(EngineInfo info)
    {
        var faults = new List<string>();
        if (info.ApiVersion < LeastApi)
        {
            faults.Add($"it speaks API {info.ApiVersion}, and {LeastApi} is needed");
        }

        if (info.DefaultRuntime == "nvidia")
        {
            faults.Add("its default runtime is nvidia, which lets any image open every card; make runc the default");
        }

        if (!info.LiveRestore)
        {
            if (options.RequireLiveRestore)
            {
                faults.Add("live-restore is off, so its restart would end every run");
            }
            else
            {
                LogNoLiveRestore(logger, options.DockerHost);
            }
        }

        if (faults.Count > 0)
        {
            throw new InvalidOperationException($"The engine at {options.DockerHost} (version {info.Version}) is refused: {string.Join("; ", faults)}.");
        }

        LogEngine(logger, options.DockerHost, info.Version, info.ApiVersion, info.Processors);
    }

    /// <summary>States what the node has, and follows the answer.</summary>
    private async Task ReportAsync(CancellationToken cancellationToken)
    {
        var held = instances.Values.ToList();
        var report = new NodeReport
        {
            Node = options.Name,
            BootId = bootId,
            CpuMilli = CpuMilli,
            MemoryMiB = MemoryMiB,
            DiskMiB = diskMiB,
            Cards = cards.Cards,
            Facts = [.. cards.Facts, .. new[] { setBack, unclaimed.Fact }.OfType<string>()],
            Instances = [.. held.Select(instance => instance.Id)],
            Adopted = adopted,
            NodeEpoch = HighestEpoch(held),
            Held = storeIsBehind ? [.. held.Select(instance => instance.Order.Lease)] : [],
        };
        var sentAt = time.GetTimestamp();
        var directive = await reports.ReportAsync(report).WaitAsync(TimeSpan.FromSeconds(30), time, cancellationToken);
        Interlocked.Exchange(ref contactAt, sentAt);
        foreach (var instance in instances.Values)
        {
            _ = instance.ContactAsync(time.GetElapsedTime(sentAt), cancellationToken);
        }

        var before = ledger.State;
        if (directive.NodeEpoch < report.NodeEpoch)
        {
            LogOldDirective(logger, directive.NodeEpoch, report.NodeEpoch);
            if (!storeIsBehind)
            {
                // First the tasks, so that none begins again what runs here; then the leases. Until both are done nothing else is followed.
                await Task.WhenAll(held.Select(instance => instance.TakeUpAsync(cancellationToken)));
                storeIsBehind = true;
                ReportSoon();
            }

            return;
        }

        if (storeIsBehind)
        {
            storeIsBehind = false;
            var kept = directive.Leases.Where(lease => lease.TakenOver).Select(lease => lease.InstanceId).ToList();
            if (kept.Count > 0)
            {
                setBack = $"At {time.GetUtcNow():u} the store was found set back to an earlier time; by this node's word these instances kept their leases: {string.Join(", ", kept)}.";
                LogSetBack(logger, setBack);
            }
        }

        var state = ledger.Change(ledgerState => Fencing.Apply(ledgerState, directive, time.GetUtcNow()));
        var leased = directive.Leases.Select(lease => lease.InstanceId).ToHashSet(StringComparer.Ordinal);
        foreach (var instance in instances.Values)
        {
            // A lease that is younger than the list cannot be in it.
            if (leased.Contains(instance.Id) || instance.Order.Lease.NodeEpoch > directive.NodeEpoch)
            {
                instance.Strikes = 0;
            }
            else if (++instance.Strikes >= 2)
            {
                instance.RequestStop(force: true, "the region has no lease for it");
            }
        }

        foreach (var gone in unusedLeases.Keys.Where(id => !leased.Contains(id) || instances.ContainsKey(id)).ToList())
        {
            unusedLeases.TryRemove(gone, out _);
        }

        foreach (var id in leased.Where(id => !instances.ContainsKey(id)))
        {
            if (Fencing.IsEnded(state, id))
            {
                ReleaseInBackground(id); // It was told before, but that must have been lost.
            }
            else if (!adopted)
            {
                continue; // Whoever wants to launch it is still being sent away.
            }
            else if (!unusedLeases.TryGetValue(id, out var since))
            {
                unusedLeases[id] = awake.GetTimestamp();
            }
            else if (awake.GetElapsedTime(since) > options.UnusedLeaseGrace)
            {
                LogUnused(logger, id);
                await StopInstanceAsync(id, force: true, cancellationToken);
            }
        }
    }

    /// <summary>The highest number that the region ever gave: in a directive, or with a lease that was newer than it.</summary>
    private long HighestEpoch(List<Instance> held) => held.Select(instance => instance.Order.Lease.NodeEpoch).Append(ledger.State.NodeEpoch).Max();

    /// <summary>Repeats how every instance is, since single messages may be lost.</summary>
    private Task HeartbeatAsync(CancellationToken cancellationToken)
    {
        foreach (var instance in instances.Values)
        {
            Tell(instance);
        }

        foreach (var (instance, left) in gone.ToArray())
        {
            // Its last word may have been lost too.
            Tell(instance);
            if (left > 1)
            {
                gone[instance] = left - 1;
            }
            else
            {
                gone.TryRemove(instance, out _);
            }
        }

        answers.Trim();
        return Task.CompletedTask;
    }

    /// <summary>Looks for what should not be there, and for instances that use more than they may.</summary>
    private async Task SweepAsync(CancellationToken cancellationToken)
    {
        var found = await engine.ListAsync(Labels.Node, options.Name, cancellationToken);
        var unknown = found.Where(container => !instances.ContainsKey(container.Name)).ToList();
        foreach (var gone in orphans.Keys.Where(name => unknown.All(container => container.Name != name)).ToList())
        {
            orphans.Remove(gone);
        }

        foreach (var container in unknown)
        {
            if (!orphans.TryGetValue(container.Name, out var since))
            {
                orphans[container.Name] = since = awake.GetTimestamp();
            }

            if (awake.GetElapsedTime(since) >= options.OrphanGrace)
            {
                LogOrphan(logger, container.Name);
                await engine.RemoveAsync(container.Id, cancellationToken);
                orphans.Remove(container.Name);
            }
        }

        foreach (var container in found.Where(container => container.State == ContainerState.Running))
        {
            if (instances.TryGetValue(container.Name, out var instance)
                && await engine.FindAsync(container.Name, measure: true, cancellationToken) is { WrittenBytes: { } written }
                && written > (long)instance.Order.Spec.DiskMiB << 20)
            {
                instance.Condemn(new LaunchFailure(
                    RunOutcome.Crashed,
                    $"The instance wrote {written >> 20} MiB to its disk and may use {instance.Order.Spec.DiskMiB} MiB."));
            }
        }

        await services.Images.TrimAsync(
            FreeForImages, options.ImageFreeDiskMiB, instances.Values.Select(instance => instance.Order.Spec.Container.Image).ToHashSet(StringComparer.Ordinal), cancellationToken);

        if (lastLogTrim is not { } last || time.GetElapsedTime(last) > LogTrimPeriod)
        {
            lastLogTrim = time.GetTimestamp();
            logs.Trim(DateTime.UtcNow);
        }
    }

    private long? lastLogTrim;

    /// <summary>Unknown until the engine was reached, and while it keeps images where this process cannot look.</summary>
    private long? FreeForImages() =>
        engineInfo.Task is { IsCompletedSuccessfully: true, Result.DataRoot: { Length: > 0 } root } && Directory.Exists(root) ? Machine.FreeDiskMiB(root) : null;

    private void ReleaseInBackground(string instanceId)
    {
        releases.GetOrAdd(instanceId, id => Task.Run(async () =>
        {
            try
            {
                await ReleaseAsync(id, stopping);
            }
            catch (OperationCanceledException)
            {
                // The next agent is told again by the region.
            }
            finally
            {
                releases.TryRemove(id, out _);
            }
        }));
    }

    private async Task ReleaseAsync(string instanceId, CancellationToken cancellationToken)
    {
        var pause = TimeSpan.FromMilliseconds(200);
        while (true)
        {
            cancellationToken.ThrowIfCancellationRequested();
            try
            {
                await reports.ReleaseAsync(instanceId).WaitAsync(cancellationToken);
                LogReleased(logger, instanceId);
                ReportSoon();
                return;
            }
            catch (Exception e) when (!cancellationToken.IsCancellationRequested)
            {
                LogReleaseFailed(logger, e, instanceId);
            }

            await Task.Delay(pause, time, cancellationToken);
            pause = TimeSpan.FromMilliseconds(Math.Min(10_000, pause.TotalMilliseconds * 2));
        }
    }

    private void OnInstanceChanged(Instance instance)
    {
        Tell(instance);
        if (instance.IsOver && instances.TryRemove(KeyValuePair.Create(instance.Id, instance)))
        {
            gone[instance] = GoneRepeats;
            instance.Life.ContinueWith(_ => instance.Dispose(), CancellationToken.None, TaskContinuationOptions.None, TaskScheduler.Default);
            ReportSoon();
        }
    }

    private void Tell(Instance instance)
    {
        var lease = instance.Order.Lease;
        // The status is taken when it is sent: then the last one sent is the latest.
        Notify(() => reports.InstanceChangedAsync(lease.Account, lease.Function, instance.Status()));
    }

    private void TellSoon(Instance instance)
    {
        if (instance.BeginTelling())
        {
            Notify(async () =>
            {
                await Task.Delay(TellPause);
                instance.EndTelling();
                Tell(instance);
            });
        }
    }

    private void Notify(Func<Task> send) => _ = Task.Run(async () =>
    {
        try
        {
            await send();
        }
        catch (Exception e)
        {
            LogTellFailed(logger, e);
        }
    });

    private void OnCardsChanged(object? sender, EventArgs e) => ReportSoon();

    private void ReportSoon()
    {
        try
        {
            if (reportNow.CurrentCount == 0)
            {
                reportNow.Release();
            }
        }
        catch (Exception e) when (e is SemaphoreFullException or ObjectDisposedException)
        {
            // Somebody else asked at the same moment, or nobody reports any more.
        }
    }

    /// <summary>Does something every period, or sooner when asked; a failure is logged and does not end it.</summary>
    private async Task RepeatAsync(string what, Func<CancellationToken, Task> action, TimeSpan period, SemaphoreSlim? sooner, CancellationToken stoppingToken)
    {
        while (!stoppingToken.IsCancellationRequested)
        {
            try
            {
                await action(stoppingToken);
            }
            catch (OperationCanceledException) when (stoppingToken.IsCancellationRequested)
            {
                return;
            }
            catch (Exception e)
            {
                LogLoopFailed(logger, e, what);
            }

            if (sooner is null)
            {
                await DelayAsync(period, stoppingToken);
                continue;
            }

            try
            {
                await sooner.WaitAsync(period, stoppingToken);
                await DelayAsync(TimeSpan.FromMilliseconds(20), stoppingToken); // What changes together is told together.
            }
            catch (OperationCanceledException)
            {
                return;
            }
        }
    }

    private async Task DelayAsync(TimeSpan pause, CancellationToken cancellationToken)
    {
        try
        {
            await Task.Delay(pause, time, cancellationToken);
        }
        catch (OperationCanceledException)
        {
            // The caller's loop looks at the token.
        }
    }
}
