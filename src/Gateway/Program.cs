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
});
builder.Services.AddGpuTasksGateway(builder.Configuration);
var app = builder.Build();
app.MapGpuTasksGateway();
await app.RunAsync();
