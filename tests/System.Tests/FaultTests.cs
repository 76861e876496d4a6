using System.Net;
using System.Text.Json.Nodes;

namespace GpuTasks.SystemTests;

/// <summary>One platform for all tests of a class.</summary>
public sealed class SharedPlatform : IAsyncLifetime
{
    internal Platform Platform { get; private set; } = null!;

    public async ValueTask InitializeAsync() => Platform = await Platform.StartAsync(
        ("GpuTasks:Node:Cards", "fc.gpu.tesla.1:16384x8"),
        ("GpuTasks:Node:StartupTimeout", "00:00:08"),
        ("GpuTasks:Node:StopGrace", "00:00:02"),
        ("GpuTasks:Node:LogBytes", "1048576"));

    public ValueTask DisposeAsync() => Platform.DisposeAsync();
}

/// <summary>Functions that misbehave, and stops at every moment.</summary>
public sealed class FaultTests(SharedPlatform shared) : IClassFixture<SharedPlatform>
{
    private readonly Client client = shared.Platform.Client;

    [Fact]
    public async Task Image_that_does_not_exist_fails_the_task_and_is_named()
    {
        await client.CreateEchoAsync("noimage", change: definition => definition["customContainerConfig"]!["image"] = "gputasks/there-is-none:ever");
        var task = await FailedAsync("noimage", """{}""");
        Assert.Contains("there-is-none", task.Error, StringComparison.Ordinal);
        await client.DeleteAsync("noimage");
    }

    [Fact]
    public async Task Server_that_never_listens_fails_the_task()
    {
        await client.CreateEchoAsync("deaf", environment: [("LISTEN", "never")]);
        var task = await FailedAsync("deaf", """{}""");
        Assert.Contains("listen", task.Error, StringComparison.OrdinalIgnoreCase);
        await client.DeleteAsync("deaf");
    }

    [Fact]
    public async Task Server_that_listens_late_succeeds()
    {
        await client.CreateEchoAsync("late", environment: [("LISTEN_AFTER_SECONDS", "3")]);
        await client.AcceptedAsync("late", "t1", "hello");
        var task = await client.UntilAsync("late", "t1");
        Assert.Equal("Succeeded", task.Status);
        Assert.Equal("hello", task.Result);
        await client.DeleteAsync("late");
    }

    [Fact]
    public async Task Answer_500_is_retried_and_then_fails()
    {
        await client.CreateEchoAsync("bad", retries: 1);
        var task = await FailedAsync("bad", """{"mode":"fail","status":500}""");
        Assert.Equal(1, task.Retries);
        Assert.Equal(2, task.Events.Count(status => status == "Running"));
        Assert.Contains("Retrying", task.Events);
        await client.DeleteAsync("bad");
    }

    [Fact]
    public async Task Failure_by_header_alone_fails_the_task()
    {
        await client.CreateEchoAsync("header");
        await FailedAsync("header", """{"mode":"fail","fcStatus":"404"}""");
        await client.DeleteAsync("header");
    }

    [Fact]
    public async Task Flaky_function_succeeds_at_the_second_attempt()
    {
        await client.CreateEchoAsync("flaky", retries: 2);
        await client.AcceptedAsync("flaky", "t1", """{"mode":"flaky","failures":1}""");
        var task = await client.UntilAsync("flaky", "t1");
        Assert.Equal("Succeeded", task.Status);
        Assert.Equal(1, task.Retries);
        Assert.Equal(2, (int)JsonNode.Parse(task.Result)!["attempt"]!);
        await client.DeleteAsync("flaky");
    }

    [Fact]
    public async Task Crash_fails_the_task_and_not_the_next_one()
    {
        await client.CreateEchoAsync("crash");
        var task = await FailedAsync("crash", """{"mode":"crash","exitCode":7}""");
        Assert.Contains("7", task.Error, StringComparison.Ordinal);
        await client.AcceptedAsync("crash", "after", "still here");
        var next = await client.UntilAsync("crash", "after");
        Assert.Equal("Succeeded", next.Status);
        Assert.NotEqual(task.Instance, next.Instance);
        await client.DeleteAsync("crash");
    }

    [Fact]
    public async Task Too_much_memory_fails_the_task_and_says_so()
    {
        await client.CreateEchoAsync("greedy");
        var task = await FailedAsync("greedy", """{"mode":"oom"}""");
        Assert.Contains("memory", task.Error, StringComparison.OrdinalIgnoreCase);
        await client.DeleteAsync("greedy");
    }

    [Fact]
    public async Task Run_over_its_limit_is_ended_near_it()
    {
        await client.CreateEchoAsync("slow", change: definition => definition["timeout"] = 2);
        var task = await FailedAsync("slow", """{"mode":"sleep","seconds":50}""");
        Assert.InRange(task.Ran.TotalSeconds, 1.9, 30);
        await client.DeleteAsync("slow");
    }

    [Fact]
    public async Task Flood_of_output_is_cut_and_the_cut_is_told()
    {
        await client.CreateEchoAsync("flood");
        await client.AcceptedAsync("flood", "t1", """{"mode":"flood","bytes":20000000,"to":"both"}""");
        Assert.Equal("Succeeded", (await client.UntilAsync("flood", "t1")).Status);

        long cursor = 0, dropped = 0, kept = 0;
        while (true)
        {
            var part = await client.LogsAsync("flood", "t1", cursor);
            Assert.True(part.Status == HttpStatusCode.OK, part.Text);
            dropped += Number(part, "X-Dropped-Bytes");
            kept += part.Text.Length;
            if (part.Text.Length == 0)
            {
                break;
            }

            cursor = Number(part, "X-Next-Cursor");
        }

        Assert.InRange(kept, 100_000, 3_000_000);
        Assert.InRange(kept + dropped, 20_000_000, 20_010_000);
        await client.DeleteAsync("flood");

        static long Number(Answer answer, string header) => long.Parse(answer.Headers.GetValues(header).Single(), System.Globalization.CultureInfo.InvariantCulture);
    }

    [Fact]
    public async Task Logs_can_be_read_after_the_container_is_gone()
    {
        await client.CreateEchoAsync("logs", change: definition => definition["idleTimeout"] = 1);
        await client.AcceptedAsync("logs", "t1", "hello");
        var task = await client.UntilAsync("logs", "t1");
        await Eventually.ComesAsync("the end of the container", TimeSpan.FromSeconds(40), () => Task.FromResult(shared.Platform.InstanceFolders()), folders => !folders.Any(folder => folder.EndsWith(task.Instance, StringComparison.Ordinal)));
        var log = await client.LogsAsync("logs", "t1");
        Assert.True(log.Status == HttpStatusCode.OK, log.Text);
        Assert.Contains("FC Invoke Start", log.Text, StringComparison.Ordinal);
        await client.DeleteAsync("logs");
    }

    [Fact]
    public async Task Stop_while_enqueued_never_runs()
    {
        await client.CreateEchoAsync("waits", change: AllCards);
        await client.AcceptedAsync("waits", "runs", """{"mode":"sleep","seconds":3}""");
        await client.UntilAsync("waits", "runs", "Running");
        await client.AcceptedAsync("waits", "waits", """{"mode":"echo"}""");
        Assert.True((await client.StopAsync("waits", "waits")).Status < HttpStatusCode.BadRequest);
        var task = await client.UntilAsync("waits", "waits");
        Assert.Equal("Stopped", task.Status);
        Assert.DoesNotContain("Running", task.Events);
        Assert.Equal("Succeeded", (await client.UntilAsync("waits", "runs")).Status);
        await client.DeleteAsync("waits");
    }

    [Fact]
    public async Task Stop_while_running_ends_the_run_also_when_asked_twice()
    {
        await client.CreateEchoAsync("stopped");
        await client.AcceptedAsync("stopped", "t1", """{"mode":"sleep","seconds":50}""");
        await client.UntilAsync("stopped", "t1", "Running");
        Assert.True((await client.StopAsync("stopped", "t1")).Status < HttpStatusCode.BadRequest);
        Assert.True((await client.StopAsync("stopped", "t1")).Status < HttpStatusCode.BadRequest);
        Assert.Equal("Stopped", (await client.UntilAsync("stopped", "t1", patience: TimeSpan.FromSeconds(15))).Status);

        // A stop of what has ended changes nothing, whatever it is answered.
        await client.StopAsync("stopped", "t1");
        Assert.Equal("Stopped", (await client.GetTaskAsync("stopped", "t1")).Status);
        await client.DeleteAsync("stopped");
    }

    [Fact]
    public async Task Stop_of_a_run_that_ignores_SIGTERM_ends_it_after_the_grace()
    {
        await client.CreateEchoAsync("stubborn");
        await client.AcceptedAsync("stubborn", "t1", """{"mode":"ignore-term","seconds":300}""");
        await client.UntilAsync("stubborn", "t1", "Running");
        // The run order is durable before the server has read it.
        await Eventually.ComesAsync("the signal being ignored", TimeSpan.FromSeconds(30), () => client.LogsAsync("stubborn", "t1"), log => log.Text.Contains("SIGTERM will be ignored", StringComparison.Ordinal));
        var asked = DateTime.UtcNow;
        await client.StopAsync("stubborn", "t1");
        Assert.Equal("Stopped", (await client.UntilAsync("stubborn", "t1", patience: TimeSpan.FromSeconds(60))).Status);
        Assert.InRange((DateTime.UtcNow - asked).TotalSeconds, 0, 60); // It would have gone on for five minutes.
        await client.DeleteAsync("stubborn");
    }

    [Fact]
    public async Task Stop_while_retrying_runs_no_more()
    {
        await client.CreateEchoAsync("again", retries: 8);
        await client.AcceptedAsync("again", "t1", """{"mode":"fail","status":500}""");
        await client.UntilAsync("again", "t1", "Retrying");
        await client.StopAsync("again", "t1");
        var task = await client.UntilAsync("again", "t1", patience: TimeSpan.FromSeconds(15));
        Assert.Equal("Stopped", task.Status);
        var runs = task.Events.Count(status => status == "Running");
        await Task.Delay(TimeSpan.FromSeconds(4), TestContext.Current.CancellationToken);
        Assert.Equal(runs, (await client.GetTaskAsync("again", "t1")).Events.Count(status => status == "Running"));
        await client.DeleteAsync("again");
    }

    [Fact]
    public async Task Stop_that_races_the_end_gives_one_final_status_that_stays()
    {
        await client.CreateEchoAsync("race");
        await client.AcceptedAsync("race", "warm", """{"mode":"echo"}""");
        await client.UntilAsync("race", "warm");
        for (var n = 0; n < 12; n++)
        {
            var id = $"t{n}";
            await client.AcceptedAsync("race", id, """{"mode":"sleep","seconds":0.2}""");
            await client.UntilAsync("race", id, "Running", TimeSpan.FromSeconds(30));
            // From well before the end to well after it.
            await Task.Delay(n * 25, TestContext.Current.CancellationToken);
            await client.StopAsync("race", id);
            var first = await client.UntilAsync("race", id, patience: TimeSpan.FromSeconds(20));
            Assert.Contains(first.Status, (string[])["Succeeded", "Stopped"]);
            Assert.Equal(1, first.Events.Count(status => status is "Succeeded" or "Stopped"));
        }

        // The slots are free again, whoever won.
        await client.AcceptedAsync("race", "last", "done");
        Assert.Equal("Succeeded", (await client.UntilAsync("race", "last")).Status);
        foreach (var task in await client.ListAsync("race"))
        {
            Assert.True(task.IsFinal, task.ToString());
        }

        await client.DeleteAsync("race");
    }

    [Fact]
    public async Task Deleted_function_makes_waiting_tasks_invalid_and_leaves_no_container()
    {
        await client.CreateEchoAsync("gone", change: AllCards);
        await client.AcceptedAsync("gone", "runs", """{"mode":"sleep","seconds":40}""");
        await client.UntilAsync("gone", "runs", "Running");
        await client.AcceptedAsync("gone", "waits", """{"mode":"echo"}""");
        await client.DeleteAsync("gone");

        await Eventually.ComesAsync("the end of the function's containers", TimeSpan.FromSeconds(30), () => Machine.DockerAtAsync(
            shared.Platform.DockerHost, "ps", "-aq", "--filter", $"label=gputasks.node={shared.Platform.Name}", "--filter", "label=gputasks.function=gone"), text => text.Length == 0);
        var status = await client.SendAsync(HttpMethod.Get, "functions/gone");
        Assert.Equal(HttpStatusCode.NotFound, status.Status);
        Assert.Equal("FunctionNotFound", status.Code);
        Assert.Equal("Invalid", (await client.UntilAsync("gone", "waits")).Status);
        Assert.True((await client.UntilAsync("gone", "runs")).IsFinal);
    }

    [Fact]
    public async Task Another_account_sees_nothing_of_a_function()
    {
        await client.CreateEchoAsync("mine");
        await client.AcceptedAsync("mine", "t1", "secret");
        await client.UntilAsync("mine", "t1");
        var other = shared.Platform.Other;
        foreach (var path in (string[])["functions/mine", "functions/mine/async-tasks/t1", "functions/mine/async-tasks", "/v1/functions/mine/tasks/t1/logs", "/v1/functions/mine/counts"])
        {
            var answer = await other.SendAsync(HttpMethod.Get, path);
            Assert.True(answer.Status == HttpStatusCode.NotFound, $"{path}: {answer.Text}");
        }

        Assert.Equal(HttpStatusCode.NotFound, (await other.StopAsync("mine", "t1")).Status);
        Assert.Equal(HttpStatusCode.NotFound, (await other.SubmitAsync("mine", "t2", "x")).Status);
        await client.DeleteAsync("mine");
    }

    [Fact]
    public async Task Duplicate_id_and_oversize_payload_are_refused()
    {
        await client.CreateEchoAsync("refuse");
        await client.AcceptedAsync("refuse", "t1", "one");
        var again = await client.SubmitAsync("refuse", "t1", "two");
        Assert.Equal(HttpStatusCode.Conflict, again.Status);
        Assert.Equal("StatefulAsyncInvocationAlreadyExists", again.Code);
        var large = await client.SubmitAsync("refuse", "t2", new string('x', (128 * 1024) + 1));
        Assert.Equal(HttpStatusCode.BadRequest, large.Status);
        Assert.Equal("EntityTooLarge", large.Code);
        var bad = await client.SubmitAsync("refuse", "9-starts-with-a-digit", "x");
        Assert.Equal(HttpStatusCode.BadRequest, bad.Status);
        Assert.Equal("InvalidArgument", bad.Code);
        Assert.Equal("one", (await client.UntilAsync("refuse", "t1")).Result);
        await client.DeleteAsync("refuse");
    }

    [Fact]
    public async Task Synchronous_call_answers_the_functions_bytes()
    {
        await client.CreateEchoAsync("direct");
        var good = await client.SendAsync(HttpMethod.Post, "functions/direct/invocations", "plain"u8.ToArray());
        Assert.True(good.Status == HttpStatusCode.OK, good.Text);
        Assert.Equal("plain", good.Text);
        Assert.False(good.Headers.Contains("X-Fc-Error-Type"));
        var failed = await client.SendAsync(HttpMethod.Post, "functions/direct/invocations", """{"mode":"fail","status":500}"""u8.ToArray());
        Assert.Equal(HttpStatusCode.OK, failed.Status);
        Assert.True(failed.Headers.Contains("X-Fc-Error-Type"));
        await client.DeleteAsync("direct");
    }

    /// <summary>One instance takes all eight cards, so that a second task has to wait.</summary>
    private static void AllCards(JsonObject definition)
    {
        definition["gpuConfig"]!["gpuMemorySize"] = 16384 * 8;
        definition["cpu"] = 0.8;
        definition["memorySize"] = 1024;
    }

    private async Task<SeenTask> FailedAsync(string function, string ask)
    {
        await client.AcceptedAsync(function, "t1", ask);
        var task = await client.UntilAsync(function, "t1", patience: TimeSpan.FromSeconds(90));
        Assert.True(task.Status == "Failed", task.ToString());
        Assert.NotEmpty(task.Error);
        return task;
    }
}
