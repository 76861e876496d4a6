using GpuTasks.Gateway;

// The gateway alone: an Orleans client of a cluster that runs elsewhere. The section "Orleans" names the cluster, as
// with every Orleans client; without it, a silo on this machine is taken.
var builder = WebApplication.CreateSlimBuilder(args);
var cluster = builder.Configuration.GetSection("Orleans");
builder.UseOrleansClient(client =>
{
    if (!cluster.GetSection("Clustering").Exists())
    {
        client.UseLocalhostClustering();
    }

    // A gateway may start before its cluster; it begins to listen once it is connected.
    client.UseConnectionRetryFilter(async (_, cancellationToken) =>
    {
        await Task.Delay(TimeSpan.FromSeconds(1), cancellationToken);
        return true;
    });
});
builder.Services.AddGpuTasksGateway(builder.Configuration);
var app = builder.Build();
app.MapGpuTasksGateway();
await app.RunAsync();
