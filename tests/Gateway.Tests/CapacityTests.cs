using System.Net;
using System.Text.Json;
using GpuTasks.Dispatch;

namespace GpuTasks.Gateway.Tests;

public sealed class CapacityTests : IAsyncLifetime
{
    private const string F = "/2023-03-30/functions/f";
    private GatewayServer server = null!;

    public async ValueTask InitializeAsync()
    {
        server = await GatewayServer.StartAsync();
        await server.CreateAsync("f");
        await server.CreateAsync("g");
    }

    public ValueTask DisposeAsync() => server.DisposeAsync();

    [Fact]
    public async Task A_concurrency_config_is_put_read_listed_and_deleted()
    {
        (await server.CallAsync("GET", $"{F}/concurrency")).Is(404, "OnDemandConfigNotFound");
        (await server.CallAsync("DELETE", $"{F}/concurrency")).Is(404, "OnDemandConfigNotFound");
        (await server.CallAsync("PUT", $"{F}/concurrency", "{}")).Is(400, "InvalidArgument");
        (await server.CallAsync("PUT", $"{F}/concurrency", "{\"reservedConcurrency\":-1}")).Is(400, "InvalidArgument");
        var put = (await server.CallAsync("PUT", $"{F}/concurrency", "{\"reservedConcurrency\":7}")).Json;
        Assert.Equal(7, put.GetProperty("reservedConcurrency").GetInt32());
        Assert.EndsWith("functions/f", put.GetProperty("functionArn").GetString(), StringComparison.Ordinal);
        Assert.Equal(7, (await server.CallAsync("GET", $"{F}/concurrency")).Json.GetProperty("reservedConcurrency").GetInt32());
        Assert.Single((await server.CallAsync("GET", "/2023-03-30/concurrency-configs")).Json.GetProperty("configs").EnumerateArray());
        Assert.Empty((await server.CallAsync("GET", "/2023-03-30/concurrency-configs?functionName=g")).Json.GetProperty("configs").EnumerateArray());
        Assert.Equal(HttpStatusCode.NoContent, (await server.CallAsync("DELETE", $"{F}/concurrency")).Status);
        (await server.CallAsync("GET", $"{F}/concurrency")).Is(404, "OnDemandConfigNotFound");
        (await server.CallAsync("PUT", "/2023-03-30/functions/none/concurrency", "{\"reservedConcurrency\":7}")).Is(404, "FunctionNotFound");
    }

    [Fact]
    public async Task A_provision_config_that_was_never_put_is_empty_and_not_missing()
    {
        var none = (await server.CallAsync("GET", $"{F}/provision-config")).Json;
        Assert.Equal(("", 0, 0), (none.GetProperty("functionArn").GetString(), none.GetProperty("target").GetInt32(), none.GetProperty("current").GetInt32()));
        Assert.Equal("", (await server.CallAsync("GET", $"{F}/scaling-config")).Json.GetProperty("functionArn").GetString());
    }

    [Fact]
    public async Task A_provision_config_is_given_back_with_what_truly_runs()
    {
        server.Platform.Capacity = new CapacityView { ProvisionTarget = 5, ScalingTarget = 3, Ready = 4, Error = "no card" };
        const string body = """
            {"defaultTarget":2,"alwaysAllocateCPU":true,"alwaysAllocateGPU":false,
             "scheduledActions":[{"name":"a","scheduleExpression":"cron(0 0 8 * * *)","target":5,"startTime":"2026-01-01T00:00:00Z","endTime":"2099-01-01T00:00:00Z","timeZone":"Asia/Shanghai"},
                                 {"name":"b","scheduleExpression":"at(2030-05-05T10:00:00Z)","target":9}],
             "targetTrackingPolicies":[{"name":"t","metricType":"ProvisionedConcurrencyUtilization","metricTarget":0.6,"minCapacity":1,"maxCapacity":10}]}
            """;
        var put = (await server.CallAsync("PUT", $"{F}/provision-config?qualifier=LATEST", body)).Json;
        var read = (await server.CallAsync("GET", $"{F}/provision-config")).Json;
        Assert.Equal(put.GetRawText(), read.GetRawText());
        Assert.Equal((2, 5, 4, "no card"), (Number(read, "defaultTarget"), Number(read, "target"), Number(read, "current"), read.GetProperty("currentError").GetString()));
        var action = read.GetProperty("scheduledActions")[0];
        Assert.Equal(("cron(0 0 8 * * *)", "Asia/Shanghai", "2026-01-01T00:00:00Z"), (action.GetProperty("scheduleExpression").GetString(), action.GetProperty("timeZone").GetString(), action.GetProperty("startTime").GetString()));
        Assert.Equal(0.6, read.GetProperty("targetTrackingPolicies")[0].GetProperty("metricTarget").GetDouble());
        var stored = server.Platform.Functions[$"{GatewayServer.Account}/f"].Capacity.Provision["LATEST"].Plan;
        Assert.Equal(new DateTimeOffset(2030, 5, 5, 10, 0, 0, TimeSpan.Zero), stored.Schedules[1].At);
        Assert.Single((await server.CallAsync("GET", "/2023-03-30/provision-configs?functionName=f")).Json.GetProperty("provisionConfigs").EnumerateArray());
        Assert.Equal(HttpStatusCode.NoContent, (await server.CallAsync("DELETE", $"{F}/provision-config")).Status);
        Assert.Empty((await server.CallAsync("GET", "/2023-03-30/provision-configs")).Json.GetProperty("provisionConfigs").EnumerateArray());
    }

    [Theory]
    [InlineData("{\"defaultTarget\":10001}", "defaultTarget")]
    [InlineData("{\"scheduledActions\":[{\"name\":\"a\",\"target\":1}]}", "scheduleExpression")]
    [InlineData("{\"scheduledActions\":[{\"name\":\"a\",\"target\":1,\"scheduleExpression\":\"cron(0 0 8 * *)\"}]}", "scheduleExpression")]
    [InlineData("{\"scheduledActions\":[{\"name\":\"a\",\"target\":1,\"scheduleExpression\":\"every day\"}]}", "scheduleExpression")]
    [InlineData("{\"scheduledActions\":[{\"name\":\"a\",\"target\":1,\"scheduleExpression\":\"cron(0 0 8 * * *)\",\"timeZone\":\"Mars/Olympus\"}]}", "timeZone")]
    [InlineData("{\"scheduledActions\":[{\"name\":\"a\",\"target\":1,\"scheduleExpression\":\"cron(0 0 8 * * *)\",\"startTime\":\"2026-02-01T00:00:00Z\",\"endTime\":\"2026-01-01T00:00:00Z\"}]}", "endTime")]
    [InlineData("{\"targetTrackingPolicies\":[{\"name\":\"t\",\"metricType\":\"CPUUtilization\",\"metricTarget\":0.5,\"minCapacity\":1,\"maxCapacity\":2}]}", "metricType")]
    [InlineData("{\"targetTrackingPolicies\":[{\"name\":\"t\",\"metricType\":\"ProvisionedConcurrencyUtilization\",\"metricTarget\":0,\"minCapacity\":1,\"maxCapacity\":2}]}", "metricTarget")]
    [InlineData("{\"targetTrackingPolicies\":[{\"name\":\"t\",\"metricType\":\"ProvisionedConcurrencyUtilization\",\"metricTarget\":0.5,\"minCapacity\":3,\"maxCapacity\":2}]}", "maxCapacity")]
    public async Task What_cannot_be_honoured_is_refused_with_the_field_s_name(string body, string field)
    {
        var answer = await server.CallAsync("PUT", $"{F}/provision-config", body);
        answer.Is(400, "InvalidArgument");
        Assert.Contains(field, answer.Message!, StringComparison.Ordinal);
        Assert.Empty(server.Platform.Functions[$"{GatewayServer.Account}/f"].Capacity.Provision);
    }

    [Fact]
    public async Task A_scaling_config_is_put_read_listed_and_deleted_and_resident_pools_are_refused()
    {
        server.Platform.Capacity = new CapacityView { ScalingTarget = 3, Ready = 4 };
        (await server.CallAsync("PUT", $"{F}/scaling-config", "{\"residentPoolId\":\"pool\"}")).Is(400, "InvalidArgument");
        (await server.CallAsync("PUT", $"{F}/scaling-config", "{\"enableMixMode\":true}")).Is(400, "InvalidArgument");
        (await server.CallAsync("PUT", $"{F}/scaling-config", "{\"requestDispatchPolicy\":\"Random\"}")).Is(400, "InvalidArgument");
        const string body = """
            {"minInstances":3,"enableOnDemandScaling":false,"requestDispatchPolicy":"Balanced",
             "scheduledPolicies":[{"name":"s","scheduleExpression":"cron(0 0 8 * * *)","target":5}],
             "horizontalScalingPolicies":[{"name":"h","metricType":"ProvisionedConcurrencyUtilization","metricTarget":0.5,"minInstances":1,"maxInstances":4}]}
            """;
        await server.CallAsync("PUT", $"{F}/scaling-config", body);
        var read = (await server.CallAsync("GET", $"{F}/scaling-config")).Json;
        Assert.Equal((3, 3, 4), (Number(read, "minInstances"), Number(read, "targetInstances"), Number(read, "currentInstances")));
        Assert.False(read.GetProperty("enableOnDemandScaling").GetBoolean());
        Assert.Equal(4, Number(read.GetProperty("horizontalScalingPolicies")[0], "maxInstances"));
        Assert.Single((await server.CallAsync("GET", "/2023-03-30/scaling-configs")).Json.GetProperty("scalingConfigs").EnumerateArray());
        Assert.Equal(HttpStatusCode.NoContent, (await server.CallAsync("DELETE", $"{F}/scaling-config")).Status);
        Assert.Empty((await server.CallAsync("GET", "/2023-03-30/scaling-configs")).Json.GetProperty("scalingConfigs").EnumerateArray());
    }

    private static int Number(JsonElement json, string name) => json.GetProperty(name).GetInt32();
}
