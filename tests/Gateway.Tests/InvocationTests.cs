using System.Net;
using System.Text;
using GpuTasks.Dispatch;
using GpuTasks.Nodes;
using GpuTasks.Tasks;

namespace GpuTasks.Gateway.Tests;

public sealed class InvocationTests : IAsyncLifetime
{
    private const string Invoke = "/2023-03-30/functions/f/invocations";
    private const string Tasks = "/2023-03-30/functions/f/async-tasks";
    private static readonly (string, string) Async = ("x-fc-invocation-type", "Async");
    private GatewayServer server = null!;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        server = await GatewayServer.StartAsync(("SyncQueueSeconds", "0"));
        await server.CreateAsync("f");
    }

    public ValueTask DisposeAsync() => server.DisposeAsync();

    [Fact]
    public async Task A_task_is_accepted_under_its_own_id_once()
    {
        var answer = await server.SignedAsync("POST", Invoke, """{"n":1}""", headers: [("X-Fc-Invocation-Type", "async"), ("X-Fc-Async-Task-Id", "job_1")]);
        Assert.Equal(HttpStatusCode.Accepted, answer.Status);
        Assert.Equal("job_1", answer.Headers["X-Fc-Async-Task-Id"]);
        Assert.Empty(answer.Text);
        (await server.CallAsync("POST", Invoke, "x", headers: [Async, ("x-fc-async-task-id", "job_1")])).Is(409, "StatefulAsyncInvocationAlreadyExists");

        var task = (await server.CallAsync("GET", $"{Tasks}/job_1?qualifier=LATEST")).Json;
        Assert.Equal("Enqueued", task.GetProperty("status").GetString());
        Assert.Equal("""{"n":1}""", task.GetProperty("taskPayload").GetString());
        Assert.Equal(answer.Headers["X-Fc-Request-Id"], task.GetProperty("requestId").GetString());
        Assert.Equal(0, task.GetProperty("endTime").GetInt64());
        Assert.True(task.GetProperty("startedTime").GetInt64() > 1_600_000_000_000);
        Assert.Equal(1, task.GetProperty("events")[0].GetProperty("eventId").GetInt32());
    }

    [Fact]
    public async Task A_store_that_stands_still_or_refuses_is_answered_within_5_s()
    {
        server.Platform.StoreStandsStill = true;
        var begun = System.Diagnostics.Stopwatch.GetTimestamp();
        var answer = await server.CallAsync("POST", Invoke, "x", headers: Async);
        answer.Is(503, "ResourceThrottled");
        Assert.True(int.Parse(answer.Headers["Retry-After"], System.Globalization.CultureInfo.InvariantCulture) > 0);
        Assert.InRange(System.Diagnostics.Stopwatch.GetElapsedTime(begun).TotalSeconds, 1, 5);

        server.Platform.StoreStandsStill = false;
        server.Platform.Fault = new GpuTasks.Store.StoreUnavailableException("full");
        answer = await server.CallAsync("POST", Invoke, "x", headers: Async);
        answer.Is(503, "ResourceThrottled");
        Assert.True(answer.Headers.ContainsKey("Retry-After"));
    }

    [Fact]
    public async Task A_submit_respects_what_this_gateway_changed_at_once_and_what_another_changed_within_a_second()
    {
        await using var other = await GatewayServer.StartAsync(server.Platform);
        Assert.Equal(HttpStatusCode.Accepted, (await server.CallAsync("POST", Invoke, "x", headers: Async)).Status);
        Assert.Equal(HttpStatusCode.Accepted, (await other.CallAsync("POST", Invoke, "x", headers: Async)).Status);

        // What is refused is never refused for what may be old.
        (string, string)[] named = [Async, ("x-fc-async-task-id", "named")];
        await server.CallAsync("PUT", "/2023-03-30/functions/f/async-invoke-config", """{"asyncTask":false}""");
        (await server.CallAsync("POST", Invoke, "x", headers: named)).Is(400, "InvalidArgument");
        await other.CallAsync("PUT", "/2023-03-30/functions/f/async-invoke-config", """{"asyncTask":true}""");
        Assert.Equal(HttpStatusCode.Accepted, (await server.CallAsync("POST", Invoke, "x", headers: named)).Status);

        await server.CallAsync("DELETE", "/2023-03-30/functions/f");
        (await server.CallAsync("POST", Invoke, "x", headers: Async)).Is(404, "FunctionNotFound");
        for (var until = DateTimeOffset.UtcNow.AddSeconds(30); (await other.CallAsync("POST", Invoke, "x", headers: Async)).Status != HttpStatusCode.NotFound;)
        {
            Assert.True(DateTimeOffset.UtcNow < until, "The other gateway still knows the function.");
            await Task.Delay(50, Cancel);
        }
    }

    [Fact]
    public async Task A_task_without_an_id_takes_the_request_s()
    {
        var answer = await server.CallAsync("POST", Invoke, "x", headers: Async);
        Assert.Equal(answer.Headers["X-Fc-Request-Id"], answer.Headers["X-Fc-Async-Task-Id"]);
        Assert.Equal(HttpStatusCode.OK, (await server.CallAsync("GET", $"{Tasks}/{answer.Headers["X-Fc-Async-Task-Id"]}")).Status);
    }

    [Theory]
    [InlineData("1a")]
    [InlineData("-a")]
    [InlineData("a.b")]
    [InlineData("a/b")]
    [InlineData("a b")]
    public async Task A_task_id_of_another_form_is_refused(string id)
    {
        var answer = await server.CallAsync("POST", Invoke, "x", headers: [Async, ("x-fc-async-task-id", id)]);
        answer.Is(400, "InvalidArgument");
        Assert.Contains("x-fc-async-task-id", answer.Message!, StringComparison.Ordinal);
        Assert.Empty(server.Platform.Submissions);
    }

    [Fact]
    public async Task Without_task_mode_a_call_runs_but_leaves_no_record()
    {
        await server.CallAsync("PUT", "/2023-03-30/functions/f/async-invoke-config", """{"asyncTask":false,"maxAsyncRetryAttempts":1,"maxAsyncEventAgeInSeconds":60}""");
        var named = await server.CallAsync("POST", Invoke, "x", headers: [Async, ("x-fc-async-task-id", "t1")]);
        named.Is(400, "InvalidArgument");
        Assert.Contains("asyncTask true", named.Message!, StringComparison.Ordinal);

        var answer = await server.CallAsync("POST", Invoke, "x", headers: Async);
        Assert.Equal(HttpStatusCode.Accepted, answer.Status);
        var id = answer.Headers["X-Fc-Request-Id"];
        var submission = server.Platform.Submissions[$"{GatewayServer.Account}/f/{id}"];
        Assert.False(submission.Recorded);
        Assert.Equal(1, submission.MaxRetryAttempts);
        Assert.Equal(TimeSpan.FromMinutes(1), submission.MaxEventAge);
        (await server.CallAsync("GET", $"{Tasks}/{id}")).Is(404, "AsyncTaskNotFound");
        (await server.CallAsync("PUT", $"{Tasks}/{id}/stop")).Is(404, "AsyncTaskNotFound");
        (await server.CallAsync("GET", $"/v1/functions/f/tasks/{id}")).Is(404, "AsyncTaskNotFound");
        Assert.Equal(0, (await server.CallAsync("GET", Tasks)).Json.GetProperty("tasks").GetArrayLength());
    }

    [Fact]
    public async Task Unknown_types_of_call_are_refused()
    {
        (await server.CallAsync("POST", Invoke, "x", headers: ("x-fc-invocation-type", "Task"))).Is(400, "InvalidArgument");
        (await server.CallAsync("POST", Invoke, "x", headers: ("x-fc-log-type", "All"))).Is(400, "InvalidArgument");
        (await server.CallAsync("POST", "/2023-03-30/functions/none/invocations", "x")).Is(404, "FunctionNotFound");
        (await server.CallAsync("POST", "/2023-03-30/functions/none/invocations", "x", headers: Async)).Is(404, "FunctionNotFound");
        (await server.CallAsync("GET", "/2023-03-30/functions/none/async-tasks/t")).Is(404, "FunctionNotFound");
        (await server.CallAsync("GET", "/2023-03-30/functions/none/async-tasks")).Is(404, "FunctionNotFound");
        (await server.CallAsync("GET", $"{Tasks}/none")).Is(404, "AsyncTaskNotFound");
    }

    [Fact]
    public async Task Tasks_stop_once_and_stopping_again_changes_nothing()
    {
        await server.CallAsync("POST", Invoke, "x", headers: [Async, ("x-fc-async-task-id", "t1")]);
        Assert.Equal(HttpStatusCode.NoContent, (await server.SignedAsync("PUT", $"{Tasks}/t1/stop")).Status);
        Assert.Equal("Stopped", (await server.CallAsync("GET", $"{Tasks}/t1")).Json.GetProperty("status").GetString());
        Assert.Equal(HttpStatusCode.NoContent, (await server.CallAsync("PUT", $"{Tasks}/t1/stop")).Status);
        (await server.CallAsync("PUT", $"{Tasks}/t2/stop")).Is(404, "AsyncTaskNotFound");
    }

    [Fact]
    public async Task Lists_pass_every_filter_on_and_page()
    {
        for (var i = 0; i < 30; i++)
        {
            await server.CallAsync("POST", Invoke, $"p{i}", headers: [Async, ("x-fc-async-task-id", $"a{i:00}")]);
        }

        await server.CallAsync("PUT", $"{Tasks}/a03/stop");
        Assert.Equal(20, await CountAsync(""));
        Assert.Equal(30, await CountAsync("?limit=100&qualifier=LATEST&nextToken="));
        Assert.Equal(1, await CountAsync("?status=Stopped"));
        Assert.Equal(10, await CountAsync("?prefix=a1"));
        Assert.Equal(0, await CountAsync("?startedTimeEnd=1640966400000"));
        Assert.Equal(0, await CountAsync($"?prefix={Uri.EscapeDataString("job-1!*'() +/~é")}&startedTimeBegin=1640966400000"));
        var ascending = (await server.CallAsync("GET", $"{Tasks}?sortOrderByTime=asc&limit=1")).Json;
        Assert.Equal("a00", ascending.GetProperty("tasks")[0].GetProperty("taskId").GetString());
        Assert.False(ascending.GetProperty("tasks")[0].TryGetProperty("taskPayload", out _));
        var next = (await server.CallAsync("GET", $"{Tasks}?sortOrderByTime=asc&limit=1&nextToken={ascending.GetProperty("nextToken").GetString()}")).Json;
        Assert.Equal("a01", next.GetProperty("tasks")[0].GetProperty("taskId").GetString());

        // Pages with payloads are shorter, and say that they go on.
        var withPayload = (await server.CallAsync("GET", $"{Tasks}?includePayload=true&limit=100&sortOrderByTime=asc")).Json;
        Assert.Equal(25, withPayload.GetProperty("tasks").GetArrayLength());
        Assert.Equal("p0", withPayload.GetProperty("tasks")[0].GetProperty("taskPayload").GetString());
        Assert.True(withPayload.TryGetProperty("nextToken", out _));

        async Task<int> CountAsync(string query) => (await server.CallAsync("GET", Tasks + query)).Json.GetProperty("tasks").GetArrayLength();
    }

    [Fact]
    public async Task Tasks_can_be_read_after_their_function_is_gone()
    {
        await server.CallAsync("POST", Invoke, "x", headers: [Async, ("x-fc-async-task-id", "t1")]);
        await server.CallAsync("DELETE", "/2023-03-30/functions/f");
        Assert.Equal(HttpStatusCode.OK, (await server.CallAsync("GET", $"{Tasks}/t1")).Status);
        Assert.Equal(1, (await server.CallAsync("GET", Tasks)).Json.GetProperty("tasks").GetArrayLength());
        (await server.CallAsync("GET", $"{Tasks}/t2")).Is(404, "FunctionNotFound");
    }

    [Fact]
    public async Task Bytes_that_are_no_text_come_back_as_base64()
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, Invoke);
        request.Headers.Authorization = new("Bearer", GatewayServer.ApiKey);
        byte[] bytes = [0xff, 0x00, 0xfe];
        await server.SendAsync(request, bytes, Async, ("x-fc-async-task-id", "t1"));
        Assert.Equal(Convert.ToBase64String(bytes), (await server.CallAsync("GET", $"{Tasks}/t1")).Json.GetProperty("taskPayload").GetString());
        var full = (await server.CallAsync("GET", "/v1/functions/f/tasks/t1")).Json;
        Assert.Equal(bytes, full.GetProperty("payloadBase64").GetBytesFromBase64());
        Assert.False(full.TryGetProperty("payload", out _));
    }

    [Fact]
    public async Task A_synchronous_call_answers_with_the_function_s_bytes()
    {
        var answer = await server.SignedAsync("POST", Invoke, "hello", headers: ("X-Fc-Log-Type", "Tail"));
        Assert.Equal(HttpStatusCode.OK, answer.Status);
        Assert.Equal("hello", answer.Text);
        Assert.Equal("text/plain", answer.ContentType);
        Assert.Equal("i-1", answer.Headers["X-Fc-Instance-Id"]);
        Assert.Equal("12", answer.Headers["X-Fc-Invocation-Duration"]);
        Assert.Equal("49.00", answer.Headers["X-Fc-Max-Memory-Usage"]);
        Assert.Equal("LATEST", answer.Headers["X-Fc-Invocation-Service-Version"]);
        Assert.Equal("tail", Encoding.ASCII.GetString(Convert.FromBase64String(answer.Headers["X-Fc-Log-Result"])));
        Assert.False(answer.Headers.ContainsKey("X-Fc-Error-Type"));
        Assert.Contains(server.Platform.Calls, call => call == $"release i-1 {answer.Headers["X-Fc-Request-Id"]}");
        var order = server.Platform.Runs.Values.Single();
        Assert.Null(order.Task);
        Assert.Equal(TimeSpan.FromSeconds(3), order.Limit);
    }

    [Theory]
    [InlineData(RunOutcome.FunctionError)]
    [InlineData(RunOutcome.TimedOut)]
    [InlineData(RunOutcome.Crashed)]
    [InlineData(RunOutcome.HostOutOfMemory)]
    public async Task A_function_that_failed_is_told_by_a_header(RunOutcome outcome)
    {
        server.Platform.Run = order => Report(order, outcome) with { Message = "it broke" };
        var answer = await server.CallAsync("POST", Invoke, "x");
        Assert.Equal(HttpStatusCode.OK, answer.Status);
        Assert.Equal("UnhandledInvocationError", answer.Headers["X-Fc-Error-Type"]);
        Assert.Equal("it broke", answer.Json.GetProperty("errorMessage").GetString());
        Assert.Equal(outcome.ToString(), answer.Json.GetProperty("errorType").GetString());

        server.Platform.Run = order => Report(order, outcome) with { Response = "own words"u8.ToArray(), ContentType = "bad\r\nx: y" };
        var own = await server.CallAsync("POST", Invoke, "x");
        Assert.Equal("own words", own.Text);
        Assert.Equal("application/octet-stream", own.ContentType);
        Assert.Equal("UnhandledInvocationError", own.Headers["X-Fc-Error-Type"]);
    }

    [Fact]
    public async Task Faults_of_the_platform_are_errors_and_not_the_function_s()
    {
        server.Platform.Run = order => Report(order, RunOutcome.NodeLost);
        (await server.CallAsync("POST", Invoke, "x")).Is(500, "InternalServerError");
        server.Platform.Acquire = _ => new SlotAnswer(null, new LaunchFailure(RunOutcome.EngineError, "engine down"));
        (await server.CallAsync("POST", Invoke, "x")).Is(500, "InternalServerError");
        server.Platform.Acquire = _ => new SlotAnswer(null, new LaunchFailure(RunOutcome.ImageError, "no such image"));
        var answer = await server.CallAsync("POST", Invoke, "x");
        Assert.Equal(HttpStatusCode.OK, answer.Status);
        Assert.Equal("FunctionNotStarted", answer.Json.GetProperty("errorType").GetString());
        Assert.Equal("no such image", answer.Json.GetProperty("errorMessage").GetString());
    }

    [Fact]
    public async Task An_answer_too_long_to_pass_on_is_a_failure()
    {
        server.Platform.Run = order => Report(order, RunOutcome.Succeeded) with { Response = [1], ResponseTruncated = true };
        var answer = await server.CallAsync("POST", Invoke, "x");
        Assert.Equal("ResponseTooLarge", answer.Json.GetProperty("errorType").GetString());
    }

    [Fact]
    public async Task Another_slot_is_taken_when_the_first_is_gone()
    {
        var tries = 0;
        server.Platform.Start = _ => ++tries == 1 ? StartRunOutcome.InstanceGone : StartRunOutcome.Started;
        var answer = await server.CallAsync("POST", Invoke, "x");
        Assert.Equal("x", answer.Text);
        var id = answer.Headers["X-Fc-Request-Id"];
        Assert.Contains($"release i-1 {id}", server.Platform.Calls);
        Assert.Contains($"acquire {id}-2", server.Platform.Calls);
        Assert.Equal(id, server.Platform.Runs[$"{id}-2"].RequestId);
    }

    [Fact]
    public async Task A_node_that_does_not_answer_at_once_is_asked_again_with_the_same_id()
    {
        var tries = 0;
        server.Platform.Start = _ => ++tries < 3 ? throw new NodeUnavailableException("node-1") : StartRunOutcome.Started;
        Assert.Equal("x", (await server.CallAsync("POST", Invoke, "x")).Text);
        Assert.Single(server.Platform.Runs);
    }

    [Fact]
    public async Task A_dispatcher_that_moves_is_asked_again_with_the_same_id()
    {
        var tries = 0;
        var slots = server.Platform.Acquire;
        server.Platform.Acquire = id => ++tries < 3 ? throw new Orleans.Runtime.OrleansException("moving") : slots(id);
        var answer = await server.CallAsync("POST", Invoke, "x");
        Assert.Equal("x", answer.Text);
        Assert.Equal(3, server.Platform.Calls.Count(call => call == $"acquire {answer.Headers["X-Fc-Request-Id"]}"));
    }

    [Fact]
    public async Task Nobody_waits_for_a_slot_for_ever()
    {
        server.Platform.Acquire = _ => new SlotAnswer(null, null);
        var answer = await server.CallAsync("POST", Invoke, "x");
        answer.Is(429, "ResourceExhausted");
        Assert.Contains("fc.gpu.tesla.1", answer.Message!, StringComparison.Ordinal);
        Assert.NotEmpty(answer.Headers["Retry-After"]);
        Assert.Contains(server.Platform.Calls, call => call.StartsWith("abandon", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_caller_that_goes_away_gives_its_place_up()
    {
        server.Platform.Acquire = _ => new SlotAnswer(null, null);
        await HangUpAsync("acquire");
        await SeenAsync("abandon");
    }

    [Fact]
    public async Task A_caller_that_goes_away_ends_its_run_and_frees_the_slot_after_that()
    {
        server.Platform.Run = _ => null;
        await HangUpAsync("await");
        await SeenAsync("release");
        var calls = server.Platform.Calls.Select(call => call.Split(' ')[0]).ToList();
        Assert.True(calls.IndexOf("cancel") < calls.IndexOf("release"));
    }

    private async Task HangUpAsync(string after)
    {
        using var gone = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        using var request = new HttpRequestMessage(HttpMethod.Post, Invoke) { Content = new StringContent("x") };
        request.Headers.Authorization = new("Bearer", GatewayServer.ApiKey);
        await Task.WhenAll(
            Assert.ThrowsAnyAsync<OperationCanceledException>(() => server.Http.SendAsync(request, gone.Token)),
            LeaveAsync());

        async Task LeaveAsync()
        {
            await SeenAsync(after);
            await gone.CancelAsync();
        }
    }

    private async Task SeenAsync(string what)
    {
        for (var until = DateTimeOffset.UtcNow.AddSeconds(15); !server.Platform.Calls.Any(call => call.StartsWith(what, StringComparison.Ordinal));)
        {
            Assert.True(DateTimeOffset.UtcNow < until, $"'{what}' was not called within 15 s");
            await Task.Delay(20, Cancel);
        }
    }

    private static RunReport Report(RunOrder order, RunOutcome outcome) =>
        new() { RunId = order.RunId, InstanceId = order.InstanceId, Node = "node-1", Outcome = outcome };
}
