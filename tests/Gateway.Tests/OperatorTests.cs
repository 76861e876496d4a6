using System.Net;
using System.Text.Json;
using GpuTasks.Dispatch;
using GpuTasks.Nodes;
using GpuTasks.Quota;
using GpuTasks.Tasks;

namespace GpuTasks.Gateway.Tests;

public sealed class OperatorTests : IAsyncLifetime
{
    private GatewayServer server = null!;

    public async ValueTask InitializeAsync()
    {
        server = await GatewayServer.StartAsync();
        await server.CreateAsync("f");
        server.Platform.Nodes.Add(new NodeStatus(
            new NodeReport
            {
                Node = "node-1",
                BootId = "b",
                CpuMilli = 8_000,
                MemoryMiB = 65_536,
                DiskMiB = 100_000,
                Cards = [new CardReport { Uuid = "GPU-1", Type = "fc.gpu.tesla.1", MemoryMiB = 16_384, TemperatureCelsius = 54, UtilizationPercent = 37, Enforcement = MemoryEnforcement.Watched }],
                Adopted = true,
            },
            true,
            DateTimeOffset.UnixEpoch,
            [new Lease { InstanceId = "i-1", Account = GatewayServer.Account, Function = "f", Node = "node-1", CpuMilli = 1_000, MemoryMiB = 4_096, DiskMiB = 512, Cards = [new CardShare("GPU-1", 4_096, 250, 7, MemoryEnforcement.Watched)] }],
            new Dictionary<string, long> { ["GPU-1"] = 7 }));
    }

    public ValueTask DisposeAsync() => server.DisposeAsync();

    [Fact]
    public async Task A_node_shows_what_is_free_and_each_card_its_leases()
    {
        var node = (await OperatorAsync("GET", "/v1/nodes")).Json.GetProperty("nodes")[0];
        Assert.Equal((7_000, 61_440, 99_488), (Number(node, "freeCpuMilli"), Number(node, "freeMemoryMiB"), Number(node, "freeDiskMiB")));
        var card = node.GetProperty("cards")[0];
        Assert.Equal(("Ready", "Watched", 54, 37), (card.GetProperty("state").GetString(), card.GetProperty("enforcement").GetString(), Number(card, "temperatureCelsius"), Number(card, "utilizationPercent")));
        var lease = Assert.Single(card.GetProperty("leases").EnumerateArray());
        Assert.Equal(("i-1", 7, "Watched"), (lease.GetProperty("instanceId").GetString(), Number(lease, "epoch"), lease.GetProperty("enforcement").GetString()));
    }

    [Fact]
    public async Task A_node_is_drained_and_undrained_by_the_operator_alone()
    {
        (await server.CallAsync("POST", "/v1/nodes/node-1:drain")).Is(403, "AccessDenied");
        (await OperatorAsync("POST", "/v1/nodes/none:drain")).Is(404, "NodeNotFound");
        (await OperatorAsync("POST", "/v1/nodes/node-1:drain", "{\"deadlineSeconds\":-1}")).Is(400, "InvalidArgument");
        var drained = (await OperatorAsync("POST", "/v1/nodes/node-1:drain", "{\"deadlineSeconds\":600}")).Json;
        Assert.Equal(600_000, drained.GetProperty("drain").GetProperty("deadline").GetInt64());
        Assert.Equal("Draining", drained.GetProperty("cards")[0].GetProperty("state").GetString());
        Assert.Equal(JsonValueKind.Null, (await OperatorAsync("POST", "/v1/nodes/node-1:drain")).Json.GetProperty("drain").GetProperty("deadline").ValueKind);
        Assert.Equal(JsonValueKind.Null, (await OperatorAsync("POST", "/v1/nodes/node-1:undrain")).Json.GetProperty("drain").ValueKind);
    }

    [Fact]
    public async Task Only_a_silent_node_is_declared_lost_and_only_by_the_operator()
    {
        (await server.CallAsync("POST", "/v1/nodes/node-1:lost")).Is(403, "AccessDenied");
        (await OperatorAsync("POST", "/v1/nodes/none:lost")).Is(404, "NodeNotFound");
        (await OperatorAsync("POST", "/v1/nodes/node-1:lost")).Is(409, "NodeReachable");
    }

    [Fact]
    public async Task A_card_is_drained_and_undrained_by_its_identity()
    {
        (await server.CallAsync("POST", "/v1/cards/GPU-1:undrain")).Is(403, "AccessDenied");
        (await OperatorAsync("POST", "/v1/cards/GPU-2:drain")).Is(404, "CardNotFound");
        Assert.Equal("Draining", (await OperatorAsync("POST", "/v1/cards/GPU-1:drain")).Json.GetProperty("cards")[0].GetProperty("state").GetString());
        Assert.Equal("Ready", (await OperatorAsync("POST", "/v1/cards/GPU-1:undrain")).Json.GetProperty("cards")[0].GetProperty("state").GetString());
    }

    [Fact]
    public async Task A_quota_is_set_by_the_operator_and_seen_by_its_account()
    {
        (await server.CallAsync("PUT", $"/v1/accounts/{GatewayServer.Account}/quota", "{\"limitMilliCards\":1}")).Is(403, "AccessDenied");
        var path = $"/v1/accounts/{GatewayServer.Account}/quota";
        Assert.Equal((2_500, 1), await QuotaAsync("PUT", "{\"limitMilliCards\":2500}"));
        Assert.Equal((2_500, 3), await QuotaAsync("PUT", "{\"weight\":3}"));
        Assert.Equal((2_500, 3), await QuotaAsync("GET", null));
        Assert.Equal(2_500, Number((await server.CallAsync("GET", path)).Json, "limitMilliCards"));
        (await server.CallAsync("GET", path, key: GatewayServer.OtherApiKey)).Is(403, "AccessDenied");
        foreach (var wrong in (string[])["{}", "{\"weight\":0}", "{\"limitMilliCards\":-1}", "{\"limitMilliCards\":1000000001}", "{\"limitMilliCards\":1.5}"])
        {
            (await OperatorAsync("PUT", path, wrong)).Is(400, "InvalidArgument");
        }

        async Task<(int, int)> QuotaAsync(string method, string? body)
        {
            var quota = (await OperatorAsync(method, path, body)).Json;
            return (Number(quota, "limitMilliCards"), Number(quota, "weight"));
        }
    }

    [Fact]
    public async Task A_waiting_task_says_why_and_one_that_runs_says_nothing()
    {
        var task = new TaskSnapshot
        {
            Key = new TaskKey(GatewayServer.Account, "f", "t"),
            Status = GpuTaskStatus.Enqueued,
            RequestId = "r",
            Qualifier = "LATEST",
            Priority = 4,
        };
        server.Platform.Put(GatewayServer.Account, "f", task);
        server.Platform.Wait = new WaitView
        {
            Reason = TaskWaitReason.Quota,
            Detail = "100 too many.",
            Missing = new CapacityShort(MilliCards: 100),
            Rank = 123_456,
            FunctionRank = 2,
            EstimatedStart = DateTimeOffset.UnixEpoch.AddSeconds(5),
            EstimateBasis = "mean",
        };
        var wait = (await server.CallAsync("GET", "/v1/functions/f/tasks/t")).Json.GetProperty("wait");
        Assert.Equal(("Quota", "100 too many.", 123_456, 2), (wait.GetProperty("reason").GetString(), wait.GetProperty("detail").GetString(), Number(wait, "rank"), Number(wait, "functionRank")));
        Assert.Equal((100, 0), (Number(wait.GetProperty("short"), "milliCards"), Number(wait.GetProperty("short"), "gpuMemoryMiB")));
        Assert.Equal(5_000, wait.GetProperty("estimatedStartAt").GetInt64());
        Assert.Contains("explain t 4", server.Platform.Calls);

        server.Platform.Put(GatewayServer.Account, "f", task with { Status = GpuTaskStatus.Retrying, Attempt = 1, Outcome = RunOutcome.FunctionError, RetryAt = DateTimeOffset.UnixEpoch.AddSeconds(60) });
        wait = (await server.CallAsync("GET", "/v1/functions/f/tasks/t")).Json.GetProperty("wait");
        Assert.Equal("Backoff", wait.GetProperty("reason").GetString());
        Assert.Equal(60_000, wait.GetProperty("estimatedStartAt").GetInt64());

        server.Platform.Put(GatewayServer.Account, "f", task);
        server.Platform.Wait = null;
        var answer = await server.CallAsync("GET", "/v1/functions/f/tasks/t");
        Assert.Equal(HttpStatusCode.OK, answer.Status);
        Assert.Equal("Unknown", answer.Json.GetProperty("wait").GetProperty("reason").GetString());

        server.Platform.Put(GatewayServer.Account, "f", task with { Status = GpuTaskStatus.Running });
        Assert.Equal(JsonValueKind.Null, (await server.CallAsync("GET", "/v1/functions/f/tasks/t")).Json.GetProperty("wait").ValueKind);
    }

    [Fact]
    public async Task Where_the_operator_wants_it_so_a_card_type_that_no_node_has_is_refused()
    {
        const string Create = """{"functionName":"x","runtime":"custom-container","handler":"-","gpuConfig":{"gpuType":"TYPE","gpuMemorySize":16384},"customContainerConfig":{"image":"i"}}""";
        Assert.Equal(HttpStatusCode.OK, (await server.CallAsync("POST", "/2023-03-30/functions", Create.Replace("TYPE", "fc.gpu.none.1"))).Status);
        await using var strict = await GatewayServer.StartAsync(("StrictCardTypes", "true"));
        strict.Platform.Nodes.AddRange(server.Platform.Nodes);
        var refused = await strict.CallAsync("POST", "/2023-03-30/functions", Create.Replace("TYPE", "fc.gpu.none.1"));
        refused.Is(400, "InvalidArgument");
        Assert.Contains("there are fc.gpu.tesla.1", refused.Message!, StringComparison.Ordinal);
        Assert.Equal(HttpStatusCode.OK, (await strict.CallAsync("POST", "/2023-03-30/functions", Create.Replace("TYPE", "fc.gpu.tesla.1"))).Status);
        (await strict.CallAsync("PUT", "/2023-03-30/functions/x", "{\"gpuConfig\":{\"gpuType\":\"fc.gpu.none.1\",\"gpuMemorySize\":16384}}")).Is(400, "InvalidArgument");
        strict.Platform.Nodes.Clear();
        Assert.Equal(HttpStatusCode.OK, (await strict.CallAsync("PUT", "/2023-03-30/functions/x", "{\"description\":\"still\"}")).Status);
    }

    private static int Number(JsonElement json, string name) => json.GetProperty(name).GetInt32();

    private Task<Answer> OperatorAsync(string method, string path, string? body = null) => server.CallAsync(method, path, body, GatewayServer.OperatorKey);
}
