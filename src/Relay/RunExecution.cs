namespace GpuTasks.Relay;

/// <summary>Sends one run to the function and says how it ended.</summary>
internal sealed class RunExecution(FunctionClient function, RunFiles files, RelayConfig config, MemoryCgroup memory, ChildProcess child)
{
    /// <summary>A dying process closes its connections before its end can be seen; a card's driver may take its time in between.</summary>
    private static readonly TimeSpan ExitWait = TimeSpan.FromSeconds(2);

    /// <summary>The same where the answer may well be whole.</summary>
    private static readonly TimeSpan ShortExitWait = TimeSpan.FromMilliseconds(100);

    /// <summary>The run's document with outcome and answer; times and log are the caller's.</summary>
    internal async Task<RunDocument> RunAsync(Run run)
    {
        var request = new FunctionRequest(run.Order.Method, run.Order.Path)
        {
            Headers = run.Order.Headers,
            BodyPath = files.RequestPath(run.Id),
            Body = run.Body,
            BodyBytes = run.Order.BodyBytes,
            AnswerPath = files.ResponsePath(run.Id),
            Answer = run.Answer,
            OnHead = head => run.Head.TrySetResult(head),
            MaxAnswerBytes = config.MaxResponseBytes,
            WantsHeaders = run.Order.AnswerHeaders,
        };
        try
        {
            var answer = await function.SendAsync(request, run.Closing.Token);
            // A process that died within its answer also ends the connection, and looks the same.
            return answer.EndedByClose && await EndsWithin(ShortExitWait)
                ? await BrokenAsync(run, "The connection was closed within the answer.")
                : run.Document with
                {
                    Outcome = Outcomes.Answered,
                    StatusCode = answer.Status,
                    FcStatus = answer.FcStatus,
                    ContentType = answer.ContentType,
                    ResponseBytes = answer.Bytes,
                    AnswerFrom = answer.From,
                    Truncated = answer.Truncated,
                    Headers = answer.Headers,
                };
        }
        catch (Exception e)
        {
            // Whatever it was, a run has to end.
            return await BrokenAsync(run, e.Message);
        }
    }

    private async Task<RunDocument> BrokenAsync(Run run, string how)
    {
        if (run.LeftBehind)
        {
            return Ended(run, run.EndAsked!, run.EndReason);
        }

        if (run.EndAsked is null)
        {
            await EndsWithin(ExitWait);
        }

        if (run.EndAsked is { } asked)
        {
            // A process that still cleans up after its answer failed holds the card: the run ends with it.
            await child.Exited;
            return Ended(run, asked, run.EndReason);
        }

        if (memory.OomKills() > run.OomKillsBefore)
        {
            return Ended(run, Outcomes.OutOfMemory, "The function was killed for want of memory.");
        }

        return child.Exited.IsCompletedSuccessfully
            ? Ended(run, Outcomes.Crashed, $"The function's process ended with {await child.Exited} before it answered.")
            : Ended(run, Outcomes.Disconnected, $"The function broke off: {how}");
    }

    private static RunDocument Ended(Run run, string outcome, string message) => run.Document with { Outcome = outcome, Message = message };

    private async Task<bool> EndsWithin(TimeSpan wait) => await Task.WhenAny(child.Exited, Task.Delay(wait)) == child.Exited;
}
