import torch
from cookbook.heads import head_for
from families import basicsr, module, rrdb_for_spandrel

torch.manual_seed(0)
torch.save(rrdb_for_spandrel(), "x4.pth")
D = basicsr("unet").eval()
ModelLoader = module("spandrel").ModelLoader
head_for(ModelLoader().load_from_file("x4.pth"), D, 0.02)
model = ModelLoader().load_from_file("x4.pth")
output = model(torch.rand(1, 3, 16, 16))
result = output.clone()
