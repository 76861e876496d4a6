using System.Diagnostics;
using System.Globalization;
using System.Net.Sockets;

namespace GpuTasks.Relay;

/// <summary>Finds out whether the function's web server listens, is healthy, and has been initialized.</summary>
internal sealed class Probe(RelayConfig config, FunctionClient function)
{
    private static readonly TimeSpan FirstPause = TimeSpan.FromMilliseconds(20);
    private static readonly TimeSpan LongestPause = TimeSpan.FromMilliseconds(250);

    /// <summary>Brings the server from start to ready; null when it is, else why not.</summary>
    internal async Task<FailureDocument?> StartUpAsync(CancellationToken cancellationToken)
    {
        var budget = TimeSpan.FromMilliseconds(config.StartupTimeoutMs);
        var since = Stopwatch.GetTimestamp();
        if (!await ListensWithinAsync(budget, cancellationToken))
        {
            return new(Failures.NeverListened, string.Create(CultureInfo.InvariantCulture, $"Nothing listened on port {config.Port} within {budget.TotalSeconds:0.###} s."));
        }

        if (config.HealthCheck is { } check && await BecomesHealthyAsync(check, budget - Stopwatch.GetElapsedTime(since), cancellationToken) is { } last)
        {
            return new(Failures.Unhealthy, string.Create(CultureInfo.InvariantCulture, $"GET {check.Path} did not succeed within {budget.TotalSeconds:0.###} s of the start. {last}"));
        }

        return config.Initializer is { } hook && await CallHookAsync("POST", "/initialize", hook, cancellationToken) is { } wrong
            ? new(Failures.Initializer, wrong)
            : null;
    }

    /// <summary>
    /// Returns why the server is unfit, once it is. It is asked only while <paramref name="idle"/>: a run is judged by its own
    /// answer, and many servers can do only one thing at a time.
    /// </summary>
    internal async Task<FailureDocument> WatchAsync(HealthCheckConfig check, Func<bool> idle, CancellationToken cancellationToken)
    {
        for (var failures = 0; ;)
        {
            await Task.Delay(Period(check), cancellationToken);
            if (!idle())
            {
                failures = 0;
                continue;
            }

            var wrong = await CheckAsync(check, cancellationToken);
            // A run that began meanwhile may be what kept the server from answering.
            failures = wrong is null || !idle() ? 0 : failures + 1;
            if (failures >= Math.Max(1, check.FailureThreshold))
            {
                return new(Failures.Unhealthy, string.Create(CultureInfo.InvariantCulture, $"GET {check.Path} failed {failures} times in a row. {wrong}"));
            }
        }
    }

    /// <summary>Calls a hook; null when it succeeded, else what went wrong.</summary>
    internal async Task<string?> CallHookAsync(string method, string path, HookConfig hook, CancellationToken cancellationToken)
    {
        var request = new FunctionRequest(method, path)
        {
            Headers = new Dictionary<string, string> { ["x-fc-control-path"] = path, ["x-fc-request-id"] = Guid.NewGuid().ToString() },
        };
        return await AskAsync(request, hook.TimeoutMs, cancellationToken);
    }

    private async Task<bool> ListensWithinAsync(TimeSpan budget, CancellationToken cancellationToken)
    {
        var since = Stopwatch.GetTimestamp();
        for (var pause = FirstPause; ; pause = TimeSpan.FromTicks(Math.Min(LongestPause.Ticks, pause.Ticks * 5 / 4)))
        {
            if (await function.ListensAsync(cancellationToken))
            {
                return true;
            }

            if (Stopwatch.GetElapsedTime(since) >= budget)
            {
                return false;
            }

            await Task.Delay(pause, cancellationToken);
        }
    }

    private async Task<string?> BecomesHealthyAsync(HealthCheckConfig check, TimeSpan budget, CancellationToken cancellationToken)
    {
        var since = Stopwatch.GetTimestamp();
        await Task.Delay(Math.Max(0, check.InitialDelayMs), cancellationToken);
        for (var successes = 0; ;)
        {
            var wrong = await CheckAsync(check, cancellationToken);
            successes = wrong is null ? successes + 1 : 0;
            if (successes >= Math.Max(1, check.SuccessThreshold))
            {
                return null;
            }

            if (Stopwatch.GetElapsedTime(since) >= budget)
            {
                return wrong ?? "It succeeded too few times.";
            }

            await Task.Delay(Period(check), cancellationToken);
        }
    }

    private Task<string?> CheckAsync(HealthCheckConfig check, CancellationToken cancellationToken) =>
        AskAsync(new FunctionRequest("GET", check.Path), check.TimeoutMs, cancellationToken);

    private async Task<string?> AskAsync(FunctionRequest request, int timeoutMs, CancellationToken cancellationToken)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(Math.Max(1, timeoutMs));
        try
        {
            var answer = await function.SendAsync(request, limit.Token);
            return answer.IsSuccess ? null : string.Create(CultureInfo.InvariantCulture, $"{request.Method} {request.Path} answered {answer.Status}.");
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            return string.Create(CultureInfo.InvariantCulture, $"{request.Method} {request.Path} did not answer within {timeoutMs} ms.");
        }
        catch (Exception e) when (e is IOException or SocketException)
        {
            return $"{request.Method} {request.Path} failed: {e.Message}";
        }
    }

    private static TimeSpan Period(HealthCheckConfig check) => TimeSpan.FromMilliseconds(Math.Max(1, check.PeriodMs));
}
