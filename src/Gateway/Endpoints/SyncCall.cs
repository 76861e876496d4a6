using GpuTasks.Dispatch;
using GpuTasks.Functions;
using GpuTasks.Gateway.Http;
using GpuTasks.Nodes;

namespace GpuTasks.Gateway.Endpoints;

/// <summary>How a synchronous call ended: the run's report, or why no instance could start.</summary>
internal sealed record SyncEnd(RunReport? Report, LaunchFailure? Failure);

/// <summary>
/// One synchronous call: waits for a slot, hands the run to the slot's node, waits for its end. No grain call is held
/// open for longer than some seconds; each is repeated under the same id. When the caller goes away, the place in the
/// queue is given up, or the run is ended and its slot given back once it is seen to have ended.
/// </summary>
internal sealed class SyncCall(ApiCall call, FunctionSnapshot function, string qualifier, HttpPassage? passage = null)
{
    private static readonly TimeSpan Step = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(250);

    /// <summary>How long a dispatcher or node that does not answer is asked again before the call is given up.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);

    /// <summary>The relay ends a run at its limit; only after that and this the end counts as lost.</summary>
    private static readonly TimeSpan EndGrace = TimeSpan.FromSeconds(30);

    private readonly TimeProvider clock = call.Http.RequestServices.GetRequiredService<TimeProvider>();
    private readonly IDispatcherGrain dispatcher = call.Grains.GetGrain<IDispatcherGrain>(function.Definition.ToString());

    public async Task<SyncEnd> RunAsync()
    {
        var wait = TimeSpan.FromSeconds((double)function.Spec.TimeoutSeconds + call.Options.SyncQueueSeconds);
        var queueDeadline = clock.GetUtcNow() + wait;

        // Every try has its own id (a dot would read as an attempt), so that giving back an earlier slot never takes away a later one.
        for (var attempt = 1; ; attempt++)
        {
            var runId = attempt == 1 ? call.RequestId : $"{call.RequestId}-{attempt}";
            var answer = await AcquireAsync(runId, queueDeadline, wait);
            if (answer.Slot is not { } slot)
            {
                return new SyncEnd(null, answer.Failure);
            }

            if (await RunOnAsync(slot, answer.Streams, runId) is { } report)
            {
                return new SyncEnd(report, null);
            }
        }
    }

    private async Task<SlotAnswer> AcquireAsync(string runId, DateTimeOffset deadline, TimeSpan wait)
    {
        var settled = false;
        try
        {
            DateTimeOffset? silentSince = null;
            while (clock.GetUtcNow() is var now && now < deadline)
            {
                var left = deadline - now;
                try
                {
                    var answer = await dispatcher.Acquire(runId, left < Step ? left : Step, call.Aborted);
                    silentSince = null;
                    if (answer.Slot is not null || answer.Failure is not null)
                    {
                        settled = true;
                        return answer;
                    }
                }
                catch (Exception e) when (IsNoAnswer(e) && clock.GetUtcNow() - (silentSince ??= clock.GetUtcNow()) < Patience)
                {
                    // The dispatcher is moving to another silo; it hears of us again under the same id.
                    await Task.Delay(Pause, clock, call.Aborted);
                }
            }

            var status = await dispatcher.GetStatus(call.Aborted);
            throw ApiErrors.ResourceExhausted(
                $"No instance of function '{function.Spec.Name}' came free within {wait.TotalSeconds:0} s{(status.WaitReason is { Length: > 0 } reason ? $": {reason}" : "")}.");
        }
        finally
        {
            if (!settled)
            {
                await dispatcher.Abandon(runId, CancellationToken.None);
            }
        }
    }

    /// <summary>Runs on a slot; null if it could not begin there, so that another slot is needed.</summary>
    private async Task<RunReport?> RunOnAsync(SlotAssignment slot, bool canStream, string runId)
    {
        var node = call.Grains.GetGrain<INodeGrain>(slot.Node);
        var streams = canStream && passage is not null;
        var maybeRunning = false;
        try
        {
            var bodyFollows = streams && passage!.BodyFollows;
            var payload = bodyFollows ? [] : passage is { BodyFollows: true } ? await passage.WholeAsync() : call.Body;
            maybeRunning = true;
            if (!await StartAsync(node, slot, new RunOrder
            {
                RunId = runId,
                InstanceId = slot.InstanceId,
                RequestId = call.RequestId,
                Qualifier = qualifier,
                Limit = slot.RunLimit,
                Payload = payload,
                Http = passage?.Head,
                Streams = streams,
                BodyBytes = bodyFollows ? passage!.BodyBytes : null,
            }))
            {
                maybeRunning = false;
                return null;
            }

            var report = streams
                ? await PassThroughAsync(node, slot, runId, bodyFollows)
                : await AwaitEndAsync(node, runId, slot.RunLimit + EndGrace, call.Aborted);
            maybeRunning = report is null;
            return report ?? throw ApiErrors.PlatformFault($"node '{slot.Node}' did not tell how the run ended.");
        }
        finally
        {
            if (maybeRunning)
            {
                await EndRunAsync(node, slot, runId);
            }

            await dispatcher.Release(slot.InstanceId, runId, CancellationToken.None);
        }
    }

    private async Task<bool> StartAsync(INodeGrain node, SlotAssignment slot, RunOrder order)
    {
        for (var giveUpAt = clock.GetUtcNow() + Patience; ;)
        {
            try
            {
                // Not cut short when the caller goes away: whether it began decides what must be undone.
                return await node.StartRun(order, CancellationToken.None) == StartRunOutcome.Started;
            }
            catch (Exception e) when (IsNoAnswer(e) && clock.GetUtcNow() < giveUpAt && !call.Aborted.IsCancellationRequested)
            {
                await Task.Delay(Pause, clock, call.Aborted);
            }
        }
    }

    /// <summary>Asks again until the end is known, also over a restart of the node's silo, which ends no run.</summary>
    private async Task<RunReport?> AwaitEndAsync(INodeGrain node, string runId, TimeSpan patience, CancellationToken cancellationToken)
    {
        var deadline = clock.GetUtcNow() + patience;
        while (clock.GetUtcNow() < deadline)
        {
            cancellationToken.ThrowIfCancellationRequested();
            try
            {
                if (await node.AwaitRun(runId, Step, cancellationToken) is { } report)
                {
                    return report;
                }
            }
            catch (Exception e) when (IsNoAnswer(e))
            {
                await Task.Delay(Pause, clock, cancellationToken);
            }
        }

        return null;
    }

    /// <summary>Hands on the body and the answer while they come. Each part is asked for or sent again until it is known to have arrived.</summary>
    private async Task<RunReport?> PassThroughAsync(INodeGrain node, SlotAssignment slot, string runId, bool bodyFollows)
    {
        using var passing = CancellationTokenSource.CreateLinkedTokenSource(call.Aborted);
        var sending = bodyFollows ? SendBodyAsync(node, slot, runId, passing.CancelAsync, passing.Token) : Task.CompletedTask;
        try
        {
            return await ReadAnswerAsync(node, slot, runId, passing.Token);
        }
        catch (OperationCanceledException) when (sending.IsFaulted)
        {
            await sending; // It says why.
            throw;
        }
        finally
        {
            // Nobody may read the request any more once it is answered.
            await passing.CancelAsync();
            await sending.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private async Task<RunReport?> ReadAnswerAsync(INodeGrain node, SlotAssignment slot, string runId, CancellationToken cancellationToken)
    {
        var deadline = clock.GetUtcNow() + slot.RunLimit + EndGrace;
        while (clock.GetUtcNow() < deadline)
        {
            AnswerPart part;
            try
            {
                part = await node.ReadAnswer(slot.InstanceId, runId, passage!.Position, Step, cancellationToken);
            }
            catch (Exception e) when (IsNoAnswer(e))
            {
                await Task.Delay(Pause, clock, cancellationToken);
                continue;
            }

            if (part.Report is { } report)
            {
                return report;
            }

            if (part.Head is { } head)
            {
                await passage.TakeAsync(head, part.Data, slot.InstanceId, cancellationToken);
            }
        }

        return null;
    }

    /// <summary>Sends the body to its end, or until nobody takes it any more. A body that breaks off ends the call.</summary>
    private async Task SendBodyAsync(INodeGrain node, SlotAssignment slot, string runId, Func<Task> giveUp, CancellationToken cancellationToken)
    {
        try
        {
            passage!.ExpectSlowBody();
            for (long sent = 0; ;)
            {
                var (data, last) = await passage.ReadBodyAsync(cancellationToken);
                do
                {
                    var receipt = await SendPartAsync(node, slot, runId, new BodyPart { From = sent, Data = data, Last = last }, cancellationToken);
                    if (receipt.Closed)
                    {
                        return;
                    }

                    var taken = (int)Math.Clamp(receipt.Received - sent, 0, data.Length);
                    (sent, data) = (sent + taken, data[taken..]);
                }
                while (data.Length > 0);

                if (last)
                {
                    return;
                }
            }
        }
        catch (Exception) when (!cancellationToken.IsCancellationRequested)
        {
            await giveUp();
            throw;
        }
    }

    private async Task<BodyReceipt> SendPartAsync(INodeGrain node, SlotAssignment slot, string runId, BodyPart part, CancellationToken cancellationToken)
    {
        while (true)
        {
            try
            {
                return await node.SendBody(slot.InstanceId, runId, part, Step, cancellationToken);
            }
            catch (Exception e) when (IsNoAnswer(e))
            {
                await Task.Delay(Pause, clock, cancellationToken);
            }
        }
    }

    /// <summary>The caller is gone or nothing is known: the run must not go on, and its slot is free only once it has ended.</summary>
    private async Task EndRunAsync(INodeGrain node, SlotAssignment slot, string runId)
    {
        var stopping = call.Http.RequestServices.GetRequiredService<IHostApplicationLifetime>().ApplicationStopping;
        try
        {
            if (await node.CancelRun(slot.InstanceId, runId, CancellationToken.None))
            {
                await AwaitEndAsync(node, runId, EndGrace, stopping);
            }
        }
        catch (Exception e) when (IsNoAnswer(e) || e is OperationCanceledException)
        {
            // The relay ends the run at its limit, and the node's next report frees the slot.
        }
    }

    private static bool IsNoAnswer(Exception e) => e is NodeUnavailableException or TimeoutException or OrleansException;
}
