using System.Text.Json;
using GpuTasks.Dispatch;
using GpuTasks.Nodes;
using GpuTasks.Tasks;

namespace GpuTasks.Containers;

/// <summary>
/// One instance from order to release. A single loop drives it: bring up, watch, end. Every step can be repeated, so
/// an agent that dies at any point is followed by one that starts the same loop over what it finds.
/// </summary>
internal sealed partial class Instance : IDisposable
{
    private static readonly TimeSpan LongPoll = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan WholeLook = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan KillMargin = TimeSpan.FromSeconds(3);
    private static readonly TimeSpan OfferPatience = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan EnginePatience = TimeSpan.FromMinutes(2);
    private static readonly TimeSpan PullNews = TimeSpan.FromSeconds(1);
    private const int DoneLimit = 4_096;
    private const int OrdersAtOnce = 64;

    private readonly Lock gate = new();
    private readonly InstanceServices services;
    private readonly InstanceFolder folder;
    private readonly RelayClient relay;
    // An order and a cancel of the same run wait for each other, those of different runs do not.
    private readonly SemaphoreSlim[] orders = [.. Enumerable.Range(0, OrdersAtOnce).Select(_ => new SemaphoreSlim(1, 1))];
    private readonly Dictionary<string, Run> runs = new(StringComparer.Ordinal);
    private readonly HashSet<string> done = new(StringComparer.Ordinal);
    private readonly Queue<string> doneOrder = new();
    private HashSet<string> endedBefore = [];
    private CancellationTokenSource wake = new();
    private InstanceMemo memo;
    private InstanceState state;
    private Phase phase = Phase.BringUp;
    private long version;
    private bool streams;
    private PullProgress? pull;
    private long pullToldAt;
    private string? resolvedImage;
    private bool endedByRun;
    private bool retired;
    private long? killAt;
    private int telling;

    private Instance(InstanceServices services, InstanceFolder folder, LaunchOrder order, InstanceMemo memo)
    {
        this.services = services;
        this.folder = folder;
        this.memo = memo;
        Order = order;
        relay = new RelayClient(folder.Box);
        version = services.Ledger.NextVersion();
    }

    private enum Phase
    {
        BringUp,
        Watch,
        End,
        Over,
    }

    private enum RunPhase
    {
        /// <summary>Handed over, but the relay's answer is not known.</summary>
        Offered,

        /// <summary>Durable in the box.</summary>
        Accepted,

        /// <summary>Ended; its end is being told.</summary>
        Reporting,
    }

    /// <summary>What it was launched for.</summary>
    public LaunchOrder Order { get; private set; }

    /// <summary>Identity.</summary>
    public string Id => Order.Lease.InstanceId;

    /// <summary>How often in a row the region's list did not have its lease.</summary>
    public int Strikes { get; set; }

    /// <summary>True once its lease was given back and the loop has ended.</summary>
    public bool IsOver
    {
        get
        {
            lock (gate)
            {
                return phase == Phase.Over;
            }
        }
    }

    /// <summary>True until its cards are proved clean.</summary>
    public bool HoldsCards
    {
        get
        {
            lock (gate)
            {
                return state != InstanceState.Gone;
            }
        }
    }

    /// <summary>The loop.</summary>
    public Task Life { get; private set; } = Task.CompletedTask;

    /// <summary>A new instance; its order is on disk when this returns.</summary>
    public static Instance Create(InstanceServices services, InstanceFolder folder, LaunchOrder order)
    {
        var memo = new InstanceMemo { CreatedAt = services.Time.GetUtcNow(), BootId = services.BootId };
        folder.Make(order, memo);
        return new Instance(services, folder, order, memo);
    }

    /// <summary>An instance that an earlier agent left, or null if it never got as far as being accepted.</summary>
    public static Instance? Adopt(InstanceServices services, InstanceFolder folder)
    {
        if (folder.LoadOrder() is not { } order)
        {
            return null;
        }

        var instance = new Instance(services, folder, order, folder.LoadMemo());
        foreach (var runId in folder.LoadDone().TakeLast(DoneLimit))
        {
            instance.Remember(runId);
        }

        foreach (var record in folder.LoadRuns())
        {
            if (instance.done.Contains(record.RunId))
            {
                folder.DeleteRun(record.RunId);
            }
            else
            {
                instance.runs[record.RunId] = new Run(record, services.Time.GetTimestamp());
            }
        }

        return instance;
    }

    /// <summary>Starts the loop. It ends with the instance, or detaches from it when the agent shuts down.</summary>
    public void Begin(CancellationToken shutdown) => Life = Task.Run(() => LiveAsync(shutdown), CancellationToken.None);

    /// <summary>To be called after <see cref="Life"/> has ended.</summary>
    public void Dispose()
    {
        relay.Dispose();
        foreach (var one in orders)
        {
            one.Dispose();
        }

        wake.Dispose();
    }

    /// <summary>How it stands, for its dispatcher.</summary>
    public InstanceStatus Status()
    {
        lock (gate)
        {
            return new InstanceStatus
            {
                InstanceId = Id,
                Node = services.Options.Name,
                State = state,
                Revision = Order.Revision,
                Runs = [.. runs.Keys],
                Failure = memo.Failure,
                WasReady = memo.WasReady,
                CreatedAt = memo.CreatedAt,
                Version = version,
                PullingImage = pull is not null,
                ResolvedImage = resolvedImage,
                Streams = streams,
                Pull = pull,
            };
        }
    }

    /// <returns>True if nobody else is about to tell its runs, so that the caller has to.</returns>
    public bool BeginTelling() => Interlocked.Exchange(ref telling, 1) == 0;

    /// <summary>To be called before the status is taken.</summary>
    public void EndTelling() => Volatile.Write(ref telling, 0);

    /// <summary>Asks for its end; a forced stop overtakes a graceful one.</summary>
    public void RequestStop(bool force, string reason)
    {
        lock (gate)
        {
            var mode = force ? StopMode.Forced : StopMode.Graceful;
            if (memo.Stop >= mode || phase == Phase.Over)
            {
                return;
            }

            memo = memo with { Stop = mode };
            SaveMemo();

            if (state is InstanceState.Ready or InstanceState.Starting)
            {
                SetState(InstanceState.Retiring);
            }
        }

        LogStopAsked(services.Logger, Id, force, reason);
        Wake();
    }

    /// <summary>Tells the relay that the platform was heard of; one that does not hear it ends its runs in time by itself.</summary>
    /// <param name="age">How long ago.</param>
    /// <param name="cancellationToken">Guards the wait.</param>
    public async Task ContactAsync(TimeSpan age, CancellationToken cancellationToken)
    {
        if (Order.Spec.NodeLostTimeoutSeconds == 0 || phase != Phase.Watch)
        {
            return;
        }

        try
        {
            await relay.ContactAsync(age, cancellationToken);
        }
        catch (Exception e) when (e is RelayException or OperationCanceledException or ObjectDisposedException)
        {
            // The next report is told again.
        }
    }

    /// <summary>Whether it has a task's run whose end has not been told. Tasks of two functions may have runs of one id.</summary>
    public bool HasRun(string runId, TaskKey task)
    {
        lock (gate)
        {
            return runs.TryGetValue(runId, out var run) && run.Record.Task == task;
        }
    }

    /// <summary>Tells the tasks of its runs that they run here. Every call is repeated by the caller until it comes through.</summary>
    /// <exception cref="Exception">A task could not be reached.</exception>
    public async Task TakeUpAsync(CancellationToken cancellationToken)
    {
        List<RunRecord> records;
        lock (gate)
        {
            records = [.. runs.Values.Select(run => run.Record).Where(record => record.Task is not null)];
            endedBefore = [.. done];
        }

        foreach (var record in records)
        {
            var slot = new SlotAssignment
            {
                SlotId = record.RunId,
                Node = services.Options.Name,
                InstanceId = Id,
                RunLimit = TimeSpan.FromMilliseconds(record.LimitMs),
                Revision = Order.Revision,
                NodeLostTimeout = TimeSpan.FromSeconds(Order.Spec.NodeLostTimeoutSeconds),
            };
            bool taken;
            try
            {
                taken = await services.Reports.TakeUpAsync(record.Task!.Value, record.Attempt, slot).WaitAsync(cancellationToken);
            }
            catch (UnknownTaskException)
            {
                taken = false;
            }

            LogTakenUp(services.Logger, Id, record.RunId, taken);
        }
    }

    /// <summary>Ends it because of what was found out about it from outside.</summary>
    public void Condemn(LaunchFailure failure)
    {
        lock (gate)
        {
            if (phase is Phase.End or Phase.Over)
            {
                return;
            }

            Fail(failure);
            memo = memo with { Stop = StopMode.Forced };
            SaveMemo();
        }

        Wake();
    }

    /// <summary>Looks again at once, after a hint that something happened.</summary>
    public void Wake()
    {
        CancellationTokenSource old;
        lock (gate)
        {
            old = wake;
            wake = new CancellationTokenSource();
        }

        old.Cancel(); // Outside the lock: who waits may go on right here.
    }

    /// <summary>Hands a run over.</summary>
    /// <exception cref="TimeoutException">The relay did not answer; the same order can be given again.</exception>
    public async Task<StartRunOutcome> StartRunAsync(RunOrder order, CancellationToken cancellationToken)
    {
        var mine = OrdersOf(order.RunId);
        await mine.WaitAsync(cancellationToken);
        try
        {
            lock (gate)
            {
                if (done.Contains(order.RunId))
                {
                    // Who asks for what ended before the store was set back has lost its answer with the store.
                    return endedBefore.Contains(order.RunId) ? StartRunOutcome.InstanceGone : StartRunOutcome.Started;
                }

                // An order whose answer was lost, perhaps by an earlier agent, may have been accepted all the same.
                if (runs.TryGetValue(order.RunId, out var known) && (known.Phase != RunPhase.Offered || folder.Box.HasOrder(order.RunId)))
                {
                    return StartRunOutcome.Started;
                }

                if (known is null)
                {
                    if (phase is Phase.End or Phase.Over || memo.Stop != StopMode.None || state > InstanceState.Ready)
                    {
                        return StartRunOutcome.InstanceGone;
                    }

                    if (state != InstanceState.Ready && !memo.WasReady)
                    {
                        return StartRunOutcome.Busy;
                    }
                }
                else if (phase is Phase.End or Phase.Over)
                {
                    // Handed over before, and the relay may have taken it: how it ended is told with the instance's end.
                    return StartRunOutcome.Started;
                }

                if (phase is Phase.BringUp)
                {
                    // It was ready in the time of an earlier agent, and whether it took this run, or can take it, only its relay knows.
                    throw new TimeoutException($"Instance '{Id}' is being found again and cannot tell yet what became of run '{order.RunId}'. Give the same order again.");
                }

                if (known is null)
                {
                    runs[order.RunId] = new Run(new RunRecord
                    {
                        RunId = order.RunId,
                        Task = order.Task,
                        Attempt = order.Attempt,
                        RequestId = order.RequestId,
                        LimitMs = (long)order.Limit.TotalMilliseconds,
                    }, services.Time.GetTimestamp());
                }
            }

            Run run;
            lock (gate)
            {
                run = runs[order.RunId];
            }

            // Known to another agent before the relay knows it; on disk before the answer. A run that a power cut could make unknown ends with it.
            var saved = folder.SaveNewRun(run.Record);
            var context = JsonSerializer.Serialize(new { task = order.Task?.ToString(), order.Attempt, order.RequestId }, RelayJson.Options);
            RelayAnswer answer;
            try
            {
                answer = await relay.PutRunAsync(order.RunId, LaunchPlanner.Order(order, Order.Lease.NodeEpoch, context), order.Payload, cancellationToken);
                await saved;
            }
            catch (RelayException e)
            {
                Wake();
                throw new TimeoutException($"Instance '{Id}' did not confirm run '{order.RunId}': {e.Message} Give the same order again.");
            }

            lock (gate)
            {
                if (answer == RelayAnswer.Accepted)
                {
                    Accept(run);
                    RunsChanged();
                    return StartRunOutcome.Started;
                }

                if (run.Phase != RunPhase.Offered)
                {
                    return StartRunOutcome.Started;
                }

                Drop(run);
                return answer == RelayAnswer.Busy ? StartRunOutcome.Busy : StartRunOutcome.InstanceGone;
            }
        }
        finally
        {
            mine.Release();
        }
    }

    /// <summary>Asks for a run's end. Its end is reported as any run's.</summary>
    /// <returns>False if it has no such run and never will.</returns>
    public async Task<bool> CancelRunAsync(string runId, CancellationToken cancellationToken)
    {
        var mine = OrdersOf(runId);
        await mine.WaitAsync(cancellationToken); // So that an order on its way is known before it is cancelled.
        try
        {
            Run? run;
            lock (gate)
            {
                if (!runs.TryGetValue(runId, out run))
                {
                    // An order that is still on its way must find the door closed, for the caller takes this as proof.
                    if (!done.Contains(runId) && phase != Phase.Over)
                    {
                        folder.AppendDone(runId);
                        Remember(runId);
                    }

                    return false;
                }

                if (run.Phase == RunPhase.Reporting)
                {
                    return true;
                }

                if (!run.Record.Cancelled)
                {
                    run.KillAt = After(services.Options.StopGrace + KillMargin);
                    endedByRun = true;
                    run.Record = run.Record with { Cancelled = true };
                    folder.SaveRun(run.Record);
                }
            }

            try
            {
                var found = await relay.CancelRunAsync(runId, cancellationToken);
                lock (gate)
                {
                    run.CancelSent = true;
                    if (!found && run.Phase == RunPhase.Offered && runs.ContainsKey(runId))
                    {
                        Drop(run);
                        return false;
                    }
                }
            }
            catch (RelayException)
            {
                // The loop sends it again, and kills the container if that helps nothing.
            }

            Wake();
            return true;
        }
        finally
        {
            mine.Release();
        }
    }

    /// <summary>A part of a streamed answer; null once the run's end is being told, or if there is no such run.</summary>
    public async Task<AnswerPart?> ReadAnswerAsync(string runId, long from, TimeSpan wait, CancellationToken cancellationToken)
    {
        if (!IsUnderWay(runId))
        {
            return null;
        }

        var (ended, part) = await relay.ReadAnswerAsync(runId, from, wait, cancellationToken);
        return ended ? null
            : part is null ? new AnswerPart()
            : new AnswerPart { Head = new AnswerHead { StatusCode = part.Head.StatusCode, Headers = RunReports.Headers(part.Head.Headers) }, Data = part.Data };
    }

    /// <summary>Hands a part of a body on; null if nobody takes it any more.</summary>
    public async Task<BodyReceipt?> SendBodyAsync(string runId, BodyPart part, TimeSpan wait, CancellationToken cancellationToken) =>
        IsUnderWay(runId) && await relay.SendBodyAsync(runId, part.From, part.Data, part.Last, wait, cancellationToken) is { } receipt
            ? new BodyReceipt(receipt.Received, receipt.Closed)
            : null;

    private bool IsUnderWay(string runId)
    {
        lock (gate)
        {
            return runs.TryGetValue(runId, out var run) && run.Phase != RunPhase.Reporting;
        }
    }

    /// <summary>Reads the log of a run that is not reported yet; null if it has no such run.</summary>
    public LogChunk? ReadLog(string runId, TaskKey task, long cursor, int limit)
    {
        RelayRun? document;
        lock (gate)
        {
            if (!runs.TryGetValue(runId, out var run) || run.Record.Task != task)
            {
                return null;
            }

            document = run.Document;
        }

        if (document is null)
        {
            return new LogChunk([], cursor, 0, false);
        }

        var from = document.LogFrom + cursor;
        var to = document.Ended ? document.LogTo : long.MaxValue;
        var (start, bytes) = folder.Box.ReadLog(from, to, limit);
        var next = start + bytes.Length;
        return new LogChunk(bytes, next - document.LogFrom, start - from, document.Ended && next >= document.LogTo);
    }

    private async Task LiveAsync(CancellationToken shutdown)
    {
        var pause = TimeSpan.FromMilliseconds(100);
        while (!IsOver)
        {
            try
            {
                shutdown.ThrowIfCancellationRequested();
                await (phase switch
                {
                    Phase.BringUp => BringUpAsync(shutdown),
                    Phase.Watch => WatchAsync(shutdown),
                    _ => EndAsync(shutdown),
                });
                pause = TimeSpan.FromMilliseconds(100);
            }
            catch (OperationCanceledException) when (shutdown.IsCancellationRequested)
            {
                return;
            }
            catch (Exception e)
            {
                LogStepFailed(services.Logger, e, Id, phase.ToString());
                if (phase == Phase.BringUp && e is not EngineException { Fault: EngineFault.Unreachable })
                {
                    lock (gate)
                    {
                        phase = Phase.End;
                        Fail(new LaunchFailure(RunOutcome.EngineError, $"The node could not launch the instance: {RunReports.Text(e.Message, e.GetType().Name)}"));
                    }
                }

                try
                {
                    await Task.Delay(pause, services.Time, shutdown);
                }
                catch (OperationCanceledException)
                {
                    return;
                }

                pause = TimeSpan.FromMilliseconds(Math.Min(5_000, pause.TotalMilliseconds * 2));
            }
        }
    }

    /// <summary>Leads to a container that runs, whatever is there at the beginning.</summary>
    private async Task BringUpAsync(CancellationToken shutdown)
    {
        using var launch = CancellationTokenSource.CreateLinkedTokenSource(shutdown);
        var patience = After(EnginePatience);
        while (phase == Phase.BringUp)
        {
            CancellationToken woken;
            lock (gate)
            {
                woken = wake.Token;
                if (memo.Stop != StopMode.None && !memo.Started)
                {
                    phase = Phase.End;
                    return;
                }
            }

            try
            {
                var found = await services.Engine.FindAsync(Id, measure: false, shutdown);
                if (found is not null && found.Labels.GetValueOrDefault(Labels.Instance) != Id)
                {
                    throw new EngineException(EngineFault.Failed, $"The name '{Id}' is taken by a container of somebody else.");
                }

                switch (found?.State)
                {
                    case ContainerState.Running:
                        lock (gate)
                        {
                            SetState(memo.WasReady ? InstanceState.Ready : InstanceState.Starting);
                            phase = Phase.Watch;
                        }

                        return;
                    case ContainerState.Exited:
                        phase = Phase.End;
                        return;
                    case ContainerState.Created:
                        // Never ran, so nothing is lost by making it anew.
                        await services.Engine.RemoveAsync(Id, shutdown);
                        SetMemo(m => m with { Started = false });
                        break;
                    case null when memo.Started:
                        lock (gate)
                        {
                            Fail(new LaunchFailure(RunOutcome.EngineError, "The container is gone, and the node did not remove it."));
                            phase = Phase.End;
                        }

                        return;
                }

                await UntilWokenAsync(woken, shutdown);
            }
            catch (OperationCanceledException) when (!shutdown.IsCancellationRequested)
            {
                // Woken: look at what is wanted now.
            }
            catch (EngineException e) when (e.Fault == EngineFault.Unreachable && memo.Started)
            {
                // It may well run; the relay tells, and it does not need the engine for that.
                lock (gate)
                {
                    SetState(memo.WasReady ? InstanceState.Ready : InstanceState.Starting);
                    phase = Phase.Watch;
                }
            }
            catch (EngineException e) when (e.Fault == EngineFault.Unreachable && services.Time.GetTimestamp() < patience)
            {
                LogEngineAway(services.Logger, Id, e.Message);
                await Task.Delay(TimeSpan.FromMilliseconds(500), services.Time, shutdown);
            }
            catch (EngineException e) when (e.Fault == EngineFault.Conflict && services.Time.GetTimestamp() < patience)
            {
                // Somebody made it meanwhile: perhaps our own call whose answer was lost.
                await Task.Delay(TimeSpan.FromMilliseconds(100), services.Time, shutdown);
            }
            catch (EngineException e)
            {
                lock (gate)
                {
                    Fail(new LaunchFailure(
                        e.Fault is EngineFault.ImageMissing or EngineFault.ImageCannotStart ? RunOutcome.ImageError : RunOutcome.EngineError,
                        e.Message));
                    phase = Phase.End;
                }
            }
        }
    }

    private async Task UntilWokenAsync(CancellationToken woken, CancellationToken shutdown)
    {
        using var step = CancellationTokenSource.CreateLinkedTokenSource(shutdown, woken);
        await MakeAndStartAsync(step.Token, shutdown);
    }

    private async Task MakeAndStartAsync(CancellationToken step, CancellationToken shutdown)
    {
        if (LaunchPlanner.Refuse(Order, services.Options) is { } refusal)
        {
            lock (gate)
            {
                Fail(refusal);
                phase = Phase.End;
            }

            return;
        }

        using var hold = await services.Images.AcquireAsync(Order.Spec.Container, Order.Lease.Account, SetPull, step);
        resolvedImage = DockerEngine.DigestOf(Order.Spec.Container.Image, hold.Image.Digests);
        await MakeAndStartAsync(hold.Image, step, shutdown);
    }

    private async Task MakeAndStartAsync(ImageInfo image, CancellationToken step, CancellationToken shutdown)
    {
        var container = Order.Spec.Container;
        if (container.RegistryPassword is not null)
        {
            // It has served its purpose, so it need not lie on this disk any longer.
            Order = Order with { Spec = Order.Spec with { Container = container with { RegistryPassword = null } } };
            folder.SaveOrder(Order);
        }

        var engine = await services.EngineInfo.WaitAsync(step);
        var real = Order.Lease.Cards
            .Select(share => share.Uuid)
            .Where(uuid => services.Cards.Cards.Any(card => card.Uuid == uuid && !card.Simulated))
            .ToList();
        if (real.Count > 0 && HandOver.EngineLists(engine))
        {
            engine = await services.Engine.GetInfoAsync(step); // Its device list follows drivers and card divisions.
        }

        var plan = LaunchPlanner.Plan(
            Order,
            image,
            new LaunchPlaces(folder.Box.Path, services.Options.RelayPath),
            services.Options,
            engine.Processors,
            HandOver.Choose(real, engine, services.Options.CardCapabilities));

        await services.Starts.WaitAsync(step);
        try
        {
            folder.MakeBox(LaunchPlanner.Configure(Order, services.Options, services.ContactAge()));
            await services.Engine.CreateAsync(plan, shutdown);
            SetMemo(m => m with { Started = true });
            await services.Engine.StartAsync(Id, shutdown);
            services.Guard.HandedOver(real);
            LogStarted(services.Logger, Id, Order.Lease.Account, Order.Lease.Function, image.Id);
        }
        catch (EngineException e) when (e.Fault == EngineFault.CardHandOver)
        {
            services.Guard.HandOverFailed(real, e.Message);
            throw;
        }
        finally
        {
            services.Starts.Release();
        }
    }

    /// <summary>Follows the relay until the instance has to end.</summary>
    private async Task WatchAsync(CancellationToken shutdown)
    {
        long after = 0;
        var wait = TimeSpan.Zero;
        var lastLook = 0L;
        var lastContact = services.Time.GetTimestamp();
        var pause = TimeSpan.FromMilliseconds(20);
        while (true)
        {
            shutdown.ThrowIfCancellationRequested();
            CancellationToken woken;
            lock (gate)
            {
                woken = wake.Token;
                if (Overdue() is { } late)
                {
                    LogOverdue(services.Logger, Id, late.Record.RunId);
                    killAt = services.Time.GetTimestamp();
                    phase = Phase.End;
                    return;
                }

                if (memo.Stop == StopMode.Forced || (retired && runs.Count == 0))
                {
                    phase = Phase.End;
                    return;
                }
            }

            using var step = CancellationTokenSource.CreateLinkedTokenSource(shutdown, woken);
            try
            {
                if (memo.Stop == StopMode.Graceful && !retired)
                {
                    await relay.RetireAsync(step.Token);
                    lock (gate)
                    {
                        retired = true;
                    }

                    continue;
                }

                await SendCancelsAsync(step.Token);
                // Of many runs few change at once, so all of them are looked at only now and then.
                var whole = after == 0 || services.Time.GetElapsedTime(lastLook) > WholeLook;
                var status = whole ? await relay.GetStatusAsync(0, TimeSpan.Zero, step.Token) : await relay.GetChangesAsync(after, wait, step.Token);
                after = status.Version;
                lastContact = services.Time.GetTimestamp();
                lastLook = whole ? lastContact : lastLook;
                pause = TimeSpan.FromMilliseconds(20);
                if (Apply(status, whole, shutdown))
                {
                    lock (gate)
                    {
                        phase = Phase.End;
                    }

                    return;
                }

                wait = PollTime();
            }
            catch (OperationCanceledException) when (!shutdown.IsCancellationRequested)
            {
                // Woken: something is wanted.
            }
            catch (RelayException e)
            {
                switch (await IsRunningAsync(shutdown))
                {
                    case false:
                        return;
                    case null:
                        lastContact = services.Time.GetTimestamp(); // Silence counts only while the engine says that it runs.
                        break;
                }

                if (services.Time.GetElapsedTime(lastContact) > services.Options.RelaySilence)
                {
                    lock (gate)
                    {
                        Fail(new LaunchFailure(
                            memo.WasReady ? RunOutcome.Crashed : RunOutcome.EngineError,
                            $"The relay in the running container has been silent for {services.Options.RelaySilence.TotalSeconds:0} s: {e.Message}"));
                        killAt = services.Time.GetTimestamp();
                        phase = Phase.End;
                    }

                    return;
                }

                await DelayAsync(pause, woken, shutdown);
                pause = TimeSpan.FromMilliseconds(Math.Min(1_000, pause.TotalMilliseconds * 1.5));
            }
        }
    }

    /// <summary>Asks the engine whether there is still something to watch; null if it does not answer.</summary>
    private async Task<bool?> IsRunningAsync(CancellationToken shutdown)
    {
        ContainerInfo? found;
        try
        {
            found = await services.Engine.FindAsync(Id, measure: false, shutdown);
        }
        catch (EngineException)
        {
            return null; // It may be restarting; containers outlive that.
        }

        if (found?.State == ContainerState.Running)
        {
            return true;
        }

        lock (gate)
        {
            if (found is null)
            {
                Fail(new LaunchFailure(RunOutcome.EngineError, "The container is gone, and the node did not remove it."));
            }

            // One that was made but never started is started yet.
            phase = found?.State == ContainerState.Created ? Phase.BringUp : Phase.End;
        }

        return false;
    }

    /// <summary>Takes over what the relay says.</summary>
    /// <param name="status">What it says.</param>
    /// <param name="whole">True if it names all of its runs.</param>
    /// <param name="shutdown">Ends the agent.</param>
    /// <returns>True when the instance has to end.</returns>
    private bool Apply(RelayStatus status, bool whole, CancellationToken shutdown)
    {
        var ghosts = new List<(string RunId, bool Ended)>();
        bool over;
        lock (gate)
        {
            foreach (var document in status.Runs)
            {
                if (!runs.TryGetValue(document.RunId, out var run))
                {
                    ghosts.Add((document.RunId, document.Ended));
                    continue;
                }

                if (run.Phase == RunPhase.Reporting)
                {
                    continue;
                }

                run.Document = document;
                Accept(run);
                if (document.Ended)
                {
                    endedByRun |= document.Outcome != "answered";
                    BeginReport(run, RunReports.EndOf(memo), live: true, shutdown);
                }
            }

            var forgotten = whole ? runs.Values.Where(run => run.Phase == RunPhase.Offered && services.Time.GetElapsedTime(run.OfferedAt) > OfferPatience).ToList() : [];
            foreach (var run in forgotten.Where(run => status.Runs.All(document => document.RunId != run.Record.RunId)))
            {
                Drop(run); // Its giver has given up, and it must not hold a place for ever.
            }

            if (streams != status.Streams)
            {
                streams = status.Streams;
                Changed();
            }

            switch (status.State)
            {
                case "ready" when memo.Stop == StopMode.None:
                    if (!memo.WasReady)
                    {
                        memo = memo with { WasReady = true };
                        SaveMemo();
                        LogReady(services.Logger, Id, (services.Time.GetUtcNow() - memo.CreatedAt).TotalMilliseconds);
                    }

                    SetState(InstanceState.Ready);
                    break;
                case "retiring":
                    retired = true;
                    SetState(InstanceState.Retiring);
                    break;
                case "failed" or "ended" or "stopping":
                    SetState(InstanceState.Stopping);
                    break;
            }

            over = status.State is "failed" or "ended" or "stopping";
            if (over)
            {
                Judge(status);
            }
        }

        foreach (var (runId, ended) in ghosts)
        {
            if (SafeName.IsValid(runId, 200))
            {
                _ = ForgetGhostAsync(runId, ended, shutdown);
            }
        }

        return over;
    }

    /// <summary>An order that the agent gave up, or has acknowledged in vain: nobody waits for it.</summary>
    private async Task ForgetGhostAsync(string runId, bool ended, CancellationToken shutdown)
    {
        try
        {
            if (ended)
            {
                await relay.AcknowledgeAsync(runId, shutdown);
            }
            else
            {
                LogGhost(services.Logger, Id, runId);
                await relay.CancelRunAsync(runId, shutdown);
            }
        }
        catch (Exception e) when (e is RelayException or OperationCanceledException or ObjectDisposedException)
        {
            // It is seen again with the next status.
        }
    }

    /// <summary>Why an instance that the relay gave up failed, in the words of the platform.</summary>
    private void Judge(RelayStatus status)
    {
        var message = RunReports.Text(status.Failure?.Message, "no details");
        switch (status.Failure?.Kind)
        {
            case "never-listened":
                Fail(new LaunchFailure(RunOutcome.InitializerError, $"FunctionNotStarted: {message}"));
                break;
            case "unhealthy":
                Fail(new LaunchFailure(RunOutcome.InitializerError, $"FunctionUnhealthy: {message}"));
                break;
            case "initializer":
                Fail(new LaunchFailure(RunOutcome.InitializerError, $"InitializerFailed: {message}"));
                break;
            case "cannot-start":
                Fail(new LaunchFailure(RunOutcome.ImageError, $"The image's command cannot be started: {message}"));
                break;
            case "exited" when !memo.WasReady:
                Fail(new LaunchFailure(
                    status.Child is { OomKilled: true } ? RunOutcome.HostOutOfMemory : RunOutcome.InitializerError,
                    $"FunctionNotStarted: {message}"));
                break;
            // With a run open, the run's own report tells it.
            case "exited" when !endedByRun && runs.Count == 0 && memo.Stop == StopMode.None:
                Fail(new LaunchFailure(status.Child is { OomKilled: true } ? RunOutcome.HostOutOfMemory : RunOutcome.Crashed, message));
                break;
        }
    }

    /// <summary>Ends the container, tells every run's end, proves that nothing is left, and gives the lease back.</summary>
    private async Task EndAsync(CancellationToken shutdown)
    {
        lock (gate)
        {
            if (state < InstanceState.Stopping)
            {
                SetState(InstanceState.Stopping);
            }
        }

        if (HoldsCards)
        {
            var last = await StopContainerAsync(shutdown);
            await ReportRestAsync(last, shutdown);

            await services.Engine.RemoveAsync(Id, shutdown);
            if (await services.Engine.FindAsync(Id, measure: false, shutdown) is not null
                || (await services.Engine.ListAsync(Labels.Instance, Id, shutdown)).Count > 0)
            {
                throw new EngineException(EngineFault.Failed, $"The engine still knows container '{Id}' after its removal.");
            }

            await services.Guard.ProveCleanAsync(Order.Lease, last?.Id ?? "", shutdown);
            folder.DeleteBox();
            services.Ledger.Change(ledger => Fencing.End(ledger, Id, services.Time.GetUtcNow()));
            folder.Delete();
            lock (gate)
            {
                SetState(InstanceState.Gone);
            }

            LogGone(services.Logger, Id, memo.Failure?.Message ?? "");
        }

        await services.ReleaseAsync(Id, shutdown);
        lock (gate)
        {
            phase = Phase.Over;
            Changed(); // The agent forgets it now.
        }
    }

    /// <summary>Leads to a container that does not run.</summary>
    /// <returns>Its last state; null if there is none.</returns>
    private async Task<ContainerInfo?> StopContainerAsync(CancellationToken shutdown)
    {
        var asked = false;
        long after = 0;
        while (true)
        {
            var found = await services.Engine.FindAsync(Id, measure: false, shutdown);
            if (found is not { State: ContainerState.Running })
            {
                return found;
            }

            killAt ??= After(services.Options.StopGrace + KillMargin + TimeSpan.FromSeconds(Order.Spec.PreStop?.TimeoutSeconds ?? 0));
            if (services.Time.GetTimestamp() >= killAt)
            {
                LogKill(services.Logger, Id);
                await services.Engine.KillAsync(Id, shutdown);
            }

            try
            {
                if (!asked)
                {
                    await relay.StopAsync(services.Options.StopGrace, shutdown);
                    asked = true;
                }

                var status = await relay.GetStatusAsync(after, TimeSpan.FromSeconds(1), shutdown);
                after = status.Version;
                Apply(status, whole: true, shutdown);
            }
            catch (RelayException)
            {
                // It is on its way out, or was never there; the engine tells.
                await Task.Delay(TimeSpan.FromMilliseconds(50), services.Time, shutdown);
            }
        }
    }

    /// <summary>Tells the end of every run that the box knows, and waits until all ends are durable elsewhere.</summary>
    private async Task ReportRestAsync(ContainerInfo? last, CancellationToken shutdown)
    {
        var final = folder.Box.ReadStatus();
        var journal = memo.BootId != services.BootId ? folder.Box.ReadJournal() : null;
        List<Task> reports;
        lock (gate)
        {
            if (final is not null && memo.Failure is null)
            {
                Judge(final);
            }

            if (memo is { Failure: null, WasReady: false, Stop: StopMode.None })
            {
                Fail(last is { OutOfMemory: true }
                    ? new LaunchFailure(RunOutcome.HostOutOfMemory, "The instance was killed for using more memory than it has, before it was ready.")
                    : new LaunchFailure(RunOutcome.EngineError, last is null
                        ? "The instance ended before it was ready."
                        : $"The container ended with code {last.ExitCode} before it was ready."));
            }

            var end = RunReports.EndOf(memo, memo.BootId != services.BootId, last);
            var overdue = Overdue();
            foreach (var run in runs.Values.ToList())
            {
                if (run.Phase == RunPhase.Reporting)
                {
                    continue;
                }

                if (run == overdue && !run.Record.Cancelled)
                {
                    run.Record = run.Record with { Overdue = true };
                }

                var kept = journal?.GetValueOrDefault(run.Record.RunId);
                run.Document = kept?.End ?? folder.Box.ReadRun(run.Record.RunId) ?? run.Document;
                run.Answer = kept?.Answer;
                BeginReport(run, end, live: false, shutdown);
            }

            reports = [.. runs.Values.Select(run => run.Report!)];
        }

        await Task.WhenAll(reports);
        shutdown.ThrowIfCancellationRequested(); // Then they may have been given up untold, and everything must stay.
    }

    private void BeginReport(Run run, InstanceEnd? end, bool live, CancellationToken shutdown)
    {
        run.Phase = RunPhase.Reporting;
        run.Report = Task.Run(() => ReportAsync(run, end, live, shutdown), CancellationToken.None);
    }

    /// <summary>Tells a run's end until it is durable, then lets the relay forget it and frees the slot. Never fails but by shutdown.</summary>
    private async Task ReportAsync(Run run, InstanceEnd? end, bool live, CancellationToken shutdown)
    {
        var pause = TimeSpan.FromMilliseconds(200);
        var told = false;
        var noted = false;
        RunReport? report = null;
        while (true)
        {
            try
            {
                shutdown.ThrowIfCancellationRequested();
                report ??= BuildReport(run, end);
                if (!told)
                {
                    if (report.Task is null)
                    {
                        services.Answers.Keep(report);
                    }
                    else
                    {
                        await TellEndAsync(report, shutdown);
                    }

                    told = true;
                    LogRunEnded(services.Logger, Id, run.Record.RunId, report.Outcome, report.Duration.TotalMilliseconds, report.Message);
                }

                if (!noted)
                {
                    folder.AppendDone(run.Record.RunId);
                    noted = true;
                }

                folder.DeleteRun(run.Record.RunId);
                break;
            }
            catch (OperationCanceledException) when (shutdown.IsCancellationRequested)
            {
                return;
            }
            catch (Exception e)
            {
                LogReportFailed(services.Logger, e, Id, run.Record.RunId);
                try
                {
                    await Task.Delay(pause, services.Time, shutdown);
                }
                catch (OperationCanceledException)
                {
                    return;
                }

                pause = TimeSpan.FromMilliseconds(Math.Min(10_000, pause.TotalMilliseconds * 2));
            }
        }

        bool leaves;
        lock (gate)
        {
            Remember(run.Record.RunId);
            runs.Remove(run.Record.RunId);
            RunsChanged();
            // The loop waits for the last run of an instance that takes no more.
            leaves = runs.Count == 0 && (retired || memo.Stop != StopMode.None);
        }

        if (live)
        {
            await ForgetGhostAsync(run.Record.RunId, ended: true, shutdown);
        }

        services.Notify(() => services.Reports.SlotFreeAsync(Order.Lease.Account, Order.Lease.Function, Id, run.Record.RunId));
        if (leaves)
        {
            Wake();
        }
    }

    private async Task TellEndAsync(RunReport report, CancellationToken shutdown)
    {
        try
        {
            await services.Reports.RunEndedAsync(report).WaitAsync(shutdown);
        }
        catch (UnknownTaskException e)
        {
            services.Unclaimed.Keep(report);
            LogUnclaimed(services.Logger, Id, report.RunId, report.Outcome, e.Message);
        }
    }

    private RunReport BuildReport(Run run, InstanceEnd? end)
    {
        var record = run.Record;
        var document = run.Document;
        var limit = record.Task is null ? RunReports.SyncResponseLimit : services.Options.MaxResultBytes;
        var response = document is not { Ended: true, Outcome: "answered" } ? null
            : run.Answer is { } kept ? (kept, false) : folder.Box.ReadResponse(record.RunId, limit);
        var (outcome, message) = document is null && end is not null && !record.Cancelled && !folder.Box.HasOrder(record.RunId)
            ? (RunOutcome.EngineError, "The instance ended before it took the run.")
            : RunReports.Classify(document, record, end, response is not null);

        byte[] tail = [];
        if (document is not null)
        {
            var to = document.Ended ? document.LogTo : long.MaxValue;
            if (record.Task is { } task)
            {
                tail = services.Logs.Archive(task, record.Attempt, folder.Box, document.LogFrom, to, services.Options.LogBytes);
            }
            else if (document.Ended)
            {
                tail = folder.Box.ReadLog(Math.Max(document.LogFrom, to - RunReports.LogTailLimit), to, RunReports.LogTailLimit).Bytes;
            }
        }

        return new RunReport
        {
            RunId = record.RunId,
            Task = record.Task,
            Attempt = record.Attempt,
            InstanceId = Id,
            Node = services.Options.Name,
            Outcome = outcome,
            StatusCode = document?.StatusCode ?? 0,
            Message = message,
            Response = response?.Bytes ?? [],
            ResponseFrom = document?.AnswerFrom ?? 0,
            ResponseTruncated = response is { Cut: true } || document is { Truncated: true },
            ContentType = document?.ContentType is { Length: <= 256 } type ? type : "",
            Duration = TimeSpan.FromMilliseconds(Math.Clamp(document?.DurationMs ?? 0, 0, (long)TimeSpan.FromDays(365).TotalMilliseconds)),
            LogTail = tail,
            MaxMemoryMiB = (int)Math.Clamp((document?.MaxMemoryBytes ?? 0) >> 20, 0, int.MaxValue),
            Headers = RunReports.Headers(document?.Headers),
        };
    }

    private async Task SendCancelsAsync(CancellationToken cancellationToken)
    {
        List<Run> open;
        lock (gate)
        {
            open = [.. runs.Values.Where(run => run.Record.Cancelled && !run.CancelSent && run.Phase != RunPhase.Reporting)];
            foreach (var run in open)
            {
                endedByRun = true;
                run.KillAt ??= After(services.Options.StopGrace + KillMargin); // An earlier agent's promise.
            }
        }

        foreach (var run in open)
        {
            await relay.CancelRunAsync(run.Record.RunId, cancellationToken);
            run.CancelSent = true;
        }
    }

    /// <summary>A run that the relay should have ended by now.</summary>
    private Run? Overdue()
    {
        var now = services.Time.GetTimestamp();
        return runs.Values.FirstOrDefault(run => run.Phase == RunPhase.Accepted && (now >= run.KillAt || now >= run.OverAt));
    }

    private TimeSpan PollTime()
    {
        lock (gate)
        {
            var next = runs.Values
                .Where(run => run.Phase == RunPhase.Accepted)
                .SelectMany(run => new[] { run.KillAt, run.OverAt })
                .Min();
            var wait = next is { } at ? services.Time.GetElapsedTime(services.Time.GetTimestamp(), at) : LongPoll;
            return wait < LongPoll ? TimeSpan.FromMilliseconds(Math.Max(10, wait.TotalMilliseconds)) : LongPoll;
        }
    }

    private void Accept(Run run)
    {
        if (run.Phase != RunPhase.Offered)
        {
            return;
        }

        run.Phase = RunPhase.Accepted;
        // The relay is the nearest keeper of the limit; this one only speaks up when the relay does not.
        run.OverAt = After(TimeSpan.FromMilliseconds(run.Record.LimitMs) + services.Options.StopGrace + KillMargin);
    }

    private void Drop(Run run)
    {
        runs.Remove(run.Record.RunId);
        folder.DeleteRun(run.Record.RunId);
        RunsChanged();
    }

    private SemaphoreSlim OrdersOf(string runId) => orders[(string.GetHashCode(runId, StringComparison.Ordinal) & int.MaxValue) % OrdersAtOnce];

    private void Remember(string runId)
    {
        if (done.Add(runId))
        {
            doneOrder.Enqueue(runId);
            if (doneOrder.Count > DoneLimit)
            {
                done.Remove(doneOrder.Dequeue());
            }
        }
    }

    private void Fail(LaunchFailure failure)
    {
        if (memo.Failure is null)
        {
            memo = memo with { Failure = failure };
            try
            {
                SaveMemo();
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // It ends all the same. Only an agent that came after this one would have to find the reason out anew.
                LogMemoLost(services.Logger, e, Id);
            }

            LogFailed(services.Logger, Id, failure.Outcome, failure.Message);
            Changed();
        }
    }

    private void SetMemo(Func<InstanceMemo, InstanceMemo> change)
    {
        lock (gate)
        {
            memo = change(memo);
            SaveMemo();
        }
    }

    private void SaveMemo()
    {
        try
        {
            folder.SaveMemo(memo);
        }
        catch (DirectoryNotFoundException)
        {
            // The instance is over and its folder deleted; nothing will ask for this again.
        }
    }

    private void SetState(InstanceState next)
    {
        if (state != next)
        {
            state = next;
            Changed();
        }
    }

    private void SetPull(PullProgress? now)
    {
        lock (gate)
        {
            // Its beginning and end are told at once, the steps between not more often than anybody reads them.
            var isStep = now is not null && pull is not null;
            pull = now;
            if (!isStep || services.Time.GetElapsedTime(pullToldAt) >= PullNews)
            {
                pullToldAt = services.Time.GetTimestamp();
                Changed();
            }
        }
    }

    private void Changed()
    {
        version = services.Ledger.NextVersion();
        services.InstanceChanged(this);
    }

    private void RunsChanged()
    {
        version = services.Ledger.NextVersion();
        services.RunsChanged(this);
    }

    private long After(TimeSpan span) => services.Time.GetTimestamp() + (long)(span.TotalSeconds * services.Time.TimestampFrequency);

    private async Task DelayAsync(TimeSpan pause, CancellationToken woken, CancellationToken shutdown)
    {
        using var either = CancellationTokenSource.CreateLinkedTokenSource(woken, shutdown);
        try
        {
            await Task.Delay(pause, services.Time, either.Token);
        }
        catch (OperationCanceledException) when (!shutdown.IsCancellationRequested)
        {
            // Woken early.
        }
    }

    private sealed class Run(RunRecord record, long offeredAt)
    {
        public long OfferedAt { get; } = offeredAt;

        public RunRecord Record { get; set; } = record;

        public RunPhase Phase { get; set; }

        public RelayRun? Document { get; set; }

        /// <summary>Its answer, if it was found in the relay's journal.</summary>
        public byte[]? Answer { get; set; }

        public bool CancelSent { get; set; }

        /// <summary>When the container is killed if a cancelled run is still there.</summary>
        public long? KillAt { get; set; }

        /// <summary>When the container is killed if the run is still there.</summary>
        public long? OverAt { get; set; }

        public Task? Report { get; set; }
    }
}
